"""Who a peer is, and how that is proved: the gateway's own small CA, paired clients, roles.

    places      folders and files that nobody else may read
    ca          the gateway's CA: server and client certificates
    clients     the gateway's list of who may come in, with their roles
    trust       the client's list of the gateways it has been paired with
    pairing     a client gets its certificate by a one-time code: the conversation, pure
    pairing_net ... over TCP
    principal   what a connection's other end is called and may do

The channels stand on this room: `tls://` takes its certificates from here.
"""
