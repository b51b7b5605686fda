"""A stock rpyc client over TLS, in a process of its own: stock.py HOST PORT FOLDER. Prints what it got."""

from __future__ import annotations

import ssl
import sys

import rpyc

host, port, folder = sys.argv[1:4]
conn = rpyc.ssl_connect(
    host,
    int(port),
    keyfile=f"{folder}/client.key",
    certfile=f"{folder}/client.pem",
    ca_certs=f"{folder}/ca.pem",
    ssl_version=ssl.PROTOCOL_TLS_CLIENT,
)
print(conn.root.add(2, 3))
print(len(conn.root.data(300_000)))
conn.close()
