"""Pairing, message by message: who gets a certificate, and what anybody else can do."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spake2 import SPAKE2_A, SPAKE2_B

from gateway.errors import ConfigError, GatewayError, ProtocolError, Unauthenticated
from gateway.identity import ca, pairing
from gateway.identity.clients import Clients
from gateway.identity.grants import Granter
from gateway.identity.pairing import (
    CLIENT_TABLE,
    GATEWAY_TABLE,
    MAX_MESSAGE,
    MAX_UNPROVEN,
    TRIES,
    ClientSide,
    GatewaySide,
    Inbox,
    Invitation,
    Paired,
    State,
    framed,
    new_code,
)
from gateway.identity.principal import Role

CODE = "4821-0937"
OTHER = "4821-0938"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> ca.Authority:
    return ca.Authority.open(tmp_path_factory.mktemp("gateway"))


@pytest.fixture
def granter(authority: ca.Authority, tmp_path: Path) -> Granter:
    return Granter(
        authority=authority,
        clients=Clients(tmp_path),
        name="bench",
        id="3f2a91",
        port=18871,
        role=Role.OBSERVE,
        devices={"psu1": Role.ADMIN},
    )


@pytest.fixture
def invitation() -> Invitation:
    return Invitation(CODE, now=0.0)


def pair(client: ClientSide, gateway: GatewaySide, now: float = 1.0) -> Paired:
    """Carry the messages between the two until there is a result; raises what the client raises."""
    message = client.hello()
    while message:
        message = client.receive(gateway.receive(message, now))
    assert client.result is not None
    return client.result


def fields(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message)
    return found


def changed(message: bytes, **changes: object) -> bytes:
    return json.dumps({**fields(message), **changes}).encode()


def nothing(request: pairing.Request) -> Mapping[str, Any]:
    raise AssertionError(f"{request.name} must not get anything")


# ------------------------------------------------------------------------------------------------------- as it should


def test_a_client_with_the_code_gets_a_certificate_and_stands_in_the_list(
    granter: Granter, invitation: Invitation
) -> None:
    paired = pair(ClientSide(CODE, "alice@laptop"), GatewaySide(invitation, granter.grant))
    assert (paired.name, paired.id, paired.port, paired.client) == ("bench", "3f2a91", 18871, "alice@laptop")
    assert paired.ca == granter.authority.pem
    (client,) = granter.clients.all()
    assert client == granter.granted
    assert client.principal.role("dmm1") is Role.OBSERVE
    assert client.principal.role("psu1") is Role.ADMIN
    assert invitation.used


@pytest.mark.parametrize("typed", ["4821-0937", "48210937", " 4821 0937 ", "48 21-09 37"])
def test_a_code_may_be_typed_in_groups(granter: Granter, invitation: Invitation, typed: str) -> None:
    assert pair(ClientSide(typed, "a"), GatewaySide(invitation, granter.grant)).client == "a"


@pytest.mark.parametrize("typed", ["", "4821", "4821-093x", "4821-09370", "４８２１０９３７"])
def test_what_can_be_no_code_is_refused_before_anything_is_sent(typed: str) -> None:
    with pytest.raises(Unauthenticated, match="a code has 8 digits"):
        ClientSide(typed, "a")


def test_codes_are_made_at_random() -> None:
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 195
    assert all(len(code) == 9 and code[4] == "-" and (code[:4] + code[5:]).isdecimal() for code in codes)


def test_two_clients_of_one_name_get_two_names(granter: Granter) -> None:
    for expected in ("alice", "alice-2", "alice-3"):
        paired = pair(ClientSide(CODE, "alice"), GatewaySide(Invitation(CODE, now=0.0), granter.grant))
        assert paired.client == expected


def test_the_private_key_never_leaves_the_client(granter: Granter, invitation: Invitation) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, granter.grant)
    wire = [client.hello()]
    wire.append(gateway.receive(wire[-1], 1.0))
    wire.append(client.receive(wire[-1]))
    wire.append(gateway.receive(wire[-1], 1.0))
    assert client.receive(wire[-1]) == b""
    assert client.result is not None
    secret = b"".join(client.result.key.splitlines()[1:-1])
    public = b"".join(client.result.certificate.splitlines()[1:-1])
    assert all(secret not in message and public not in message for message in wire)
    assert all(b"PRIVATE" not in message and b"CERTIFICATE" not in message for message in wire)


# ------------------------------------------------------------------------------------------------------------ the code


def test_a_wrong_code_gets_nothing_and_is_told(invitation: Invitation) -> None:
    gateway = GatewaySide(invitation, nothing)
    with pytest.raises(Unauthenticated, match="the gateway refuses: wrong code; 2 more may be tried"):
        pair(ClientSide(OTHER, "a"), gateway)
    assert invitation.wrong == 1
    assert not invitation.used
    assert gateway.finished
    assert gateway.failure.startswith("wrong code")


def test_after_three_wrong_codes_the_right_one_is_refused_too(invitation: Invitation) -> None:
    for _ in range(TRIES):
        with pytest.raises(Unauthenticated, match="wrong code"):
            pair(ClientSide(OTHER, "a"), GatewaySide(invitation, nothing))
    with pytest.raises(Unauthenticated, match="3 wrong codes were tried, so this one is dead"):
        pair(ClientSide(CODE, "a"), GatewaySide(invitation, nothing))


def test_wrong_codes_count_over_peers_that_came_at_once(invitation: Invitation) -> None:
    sides = [(ClientSide(OTHER, "a"), GatewaySide(invitation, nothing)) for _ in range(TRIES + 1)]
    requests = [(gateway, client.receive(gateway.receive(client.hello(), 1.0))) for client, gateway in sides]
    answers = [fields(gateway.receive(request, 1.0))["reason"] for gateway, request in requests]
    assert [answer.startswith("wrong code") for answer in answers] == [True, True, True, False]
    assert invitation.wrong == TRIES


def test_a_code_is_good_once(granter: Granter, invitation: Invitation) -> None:
    late, door = ClientSide(CODE, "late"), GatewaySide(invitation, granter.grant)
    request = late.receive(door.receive(late.hello(), 1.0))  # it has begun before
    pair(ClientSide(CODE, "first"), GatewaySide(invitation, granter.grant))
    with pytest.raises(Unauthenticated, match="this code has been used"):
        late.receive(door.receive(request, 1.0))
    with pytest.raises(Unauthenticated, match="this code has been used"):
        pair(ClientSide(CODE, "later"), GatewaySide(invitation, granter.grant))
    assert [client.name for client in granter.clients.all()] == ["first"]


@pytest.mark.parametrize(("now", "good"), [(0.0, True), (119.9, True), (120.0, False), (1e9, False)])
def test_a_code_is_good_for_two_minutes(granter: Granter, invitation: Invitation, now: float, good: bool) -> None:
    if good:
        assert pair(ClientSide(CODE, "a"), GatewaySide(invitation, granter.grant), now)
    else:
        with pytest.raises(Unauthenticated, match="this code has expired"):
            pair(ClientSide(CODE, "a"), GatewaySide(invitation, nothing), now)


def test_a_code_that_expires_between_two_messages_is_good_no_more(invitation: Invitation) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, nothing)
    request = client.receive(gateway.receive(client.hello(), 119.0))
    with pytest.raises(Unauthenticated, match="expired"):
        client.receive(gateway.receive(request, 121.0))


def test_the_gateway_computes_for_a_bounded_number_of_peers(invitation: Invitation) -> None:
    answered = 0
    for _ in range(2 * pairing.EXCHANGES):
        reply = GatewaySide(invitation, nothing).receive(ClientSide(OTHER, "a").hello(), 1.0)
        answered += fields(reply)["type"] == "answer"
    assert answered == pairing.EXCHANGES + 1
    assert invitation.wrong == 0


# -------------------------------------------------------------------------------------------------- a man in the middle


def test_a_man_in_the_middle_without_the_code_gets_nothing_from_either_side(invitation: Invitation) -> None:
    """He plays the gateway to the client and the client to the gateway, with a guess for the code."""
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, nothing)
    to_client = GatewaySide(Invitation(OTHER, now=0.0), nothing)
    to_gateway = ClientSide(OTHER, "mallory")
    stolen = client.receive(to_client.receive(client.hello(), 1.0))
    to_client.receive(stolen, 1.0)
    assert to_client.failure.startswith("wrong code")  # he can't read the request
    with pytest.raises(Unauthenticated, match="wrong code"):
        pair(to_gateway, gateway)
    assert not invitation.used


def test_a_gateway_that_does_not_know_the_code_is_not_believed() -> None:
    client = ClientSide(CODE, "a")
    hello = client.hello()
    impostor = SPAKE2_B(b"48210938", idA=pairing._CLIENT, idB=pairing._GATEWAY)
    answer = json.dumps({"type": "answer", "pake": base64.b64encode(impostor.start()).decode()}).encode()
    keys = pairing._agree(impostor, fields(hello)["pake"], hello + answer)
    client.receive(answer)
    forged = {"confirm": keys.gateway_mac, "box": b""}
    issued = {"type": "issued", **{key: base64.b64encode(value).decode() for key, value in forged.items()}}
    with pytest.raises(Unauthenticated, match="does not know the code: it is not the gateway"):
        client.receive(json.dumps(issued).encode())
    assert client.result is None


@pytest.mark.parametrize("part", ["pake", "confirm", "box"])
def test_what_is_changed_on_its_way_gives_nobody_a_certificate(granter: Granter, part: str) -> None:
    """Each byte string of each message, one at a time."""
    for at in range(4):
        client, gateway = ClientSide(CODE, "a"), GatewaySide(Invitation(CODE, now=0.0), granter.grant)
        outcome: GatewayError | None = None
        message, touched = client.hello(), False
        try:
            for step in range(4):
                if step == at and part in fields(message):
                    raw = bytearray(base64.b64decode(fields(message)[part]))
                    raw[-1] ^= 1
                    message, touched = changed(message, **{part: base64.b64encode(raw).decode()}), True
                message = gateway.receive(message, 1.0) if step % 2 == 0 else client.receive(message)
        except GatewayError as problem:
            outcome = problem
        if touched:
            assert client.result is None
            assert outcome is not None or gateway.failure


def test_the_version_is_part_of_what_is_confirmed(invitation: Invitation) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, nothing)
    hello = client.hello()
    respelled = json.dumps(fields(hello), indent=1).encode()  # the same fields, other bytes
    assert respelled != hello
    with pytest.raises(Unauthenticated, match="wrong code"):
        client.receive(gateway.receive(client.receive(gateway.receive(respelled, 1.0)), 1.0))


def test_a_recorded_pairing_can_not_be_played_again(granter: Granter) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(Invitation(CODE, now=0.0), granter.grant)
    hello = client.hello()
    request = client.receive(gateway.receive(hello, 1.0))
    gateway.receive(request, 1.0)
    again = GatewaySide(Invitation(CODE, now=0.0), nothing)  # even if the very same code came up again
    again.receive(hello, 1.0)
    assert "wrong code" in fields(again.receive(request, 1.0))["reason"]


def test_a_gateways_answer_can_not_be_played_to_another_client(granter: Granter, invitation: Invitation) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, granter.grant)
    answer = gateway.receive(client.hello(), 1.0)
    issued = gateway.receive(client.receive(answer), 1.0)
    victim = ClientSide(CODE, "b")
    victim.hello()
    victim.receive(answer)
    with pytest.raises(Unauthenticated, match="does not know the code"):
        victim.receive(issued)


def test_a_clients_own_message_sent_back_to_it_is_refused() -> None:
    client = ClientSide(CODE, "a")
    with pytest.raises(ProtocolError, match="no part of a key exchange"):
        client.receive(changed(client.hello(), type="answer").replace(b'"version": 1, ', b""))


ZERO = b"\1" + bytes(31)
LOW_ORDER = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
ELEMENTS = [b"A" + ZERO, b"A" + LOW_ORDER, b"A" + bytes(32), b"A" + b"\xff" * 32, b"B" + ZERO, b"S" + ZERO, b"A", b""]


@pytest.mark.parametrize("element", ELEMENTS)
def test_what_is_no_element_of_the_group_is_refused(invitation: Invitation, element: bytes) -> None:
    gateway = GatewaySide(invitation, nothing)
    hello = {"type": "hello", "version": 1, "pake": base64.b64encode(element).decode()}
    assert fields(gateway.receive(json.dumps(hello).encode(), 1.0))["type"] == "refused"
    assert gateway.state is State.FAILED


def test_a_certificate_for_another_key_or_by_another_ca_is_not_taken(
    granter: Granter, authority: ca.Authority, tmp_path: Path
) -> None:
    other = ca.Authority.open(tmp_path / "other")
    mine = {"name": "x", "id": "1", "port": 1, "client": "a"}

    def for_another_key(request: pairing.Request) -> Mapping[str, Any]:
        issued = authority.issue(ca.new_key().public_key(), "a")
        return {**mine, "ca": authority.pem.decode(), "certificate": issued.certificate.decode()}

    def by_another_ca(request: pairing.Request) -> Mapping[str, Any]:
        issued = other.issue(ca.requested_key(request.pem), "a")
        return {**mine, "ca": authority.pem.decode(), "certificate": issued.certificate.decode()}

    def nonsense(request: pairing.Request) -> Mapping[str, Any]:
        return {**mine, "ca": "x", "certificate": "y"}

    def too_little(request: pairing.Request) -> Mapping[str, Any]:
        return {"name": "x"}

    for issue in (for_another_key, by_another_ca, nonsense, too_little):
        client = ClientSide(CODE, "a")
        with pytest.raises(ProtocolError):
            pair(client, GatewaySide(Invitation(CODE, now=0.0), issue))
        assert client.result is None


def test_a_request_that_is_none_uses_the_code_up_and_gets_nothing(invitation: Invitation, granter: Granter) -> None:
    client, gateway = ClientSide(CODE, "a"), GatewaySide(invitation, granter.grant)
    client.receive(gateway.receive(client.hello(), 1.0))
    keys = client._keys
    assert keys is not None
    box = keys.seal(keys.client_box, {"name": "a", "request": "-----BEGIN nothing"})
    request = {"type": "request", "confirm": base64.b64encode(keys.client_mac).decode(), "box": box}
    assert "no certificate request" in fields(gateway.receive(json.dumps(request).encode(), 1.0))["reason"]
    assert granter.clients.all() == ()
    assert invitation.used


# ------------------------------------------------------------------------------------------------ order, size, nonsense


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", ["hello", "answer", "request", "issued", "refused", "else"])
def test_a_message_that_the_table_does_not_have_is_the_end(state: State, kind: str) -> None:
    text = {"version": 1, "pake": "", "confirm": "", "box": "", "reason": ""}
    message = json.dumps({"type": kind, **{key: text[key] for key in pairing._FIELDS.get(kind, {})}}).encode()
    if kind not in GATEWAY_TABLE.get(state, {}):
        gateway = GatewaySide(Invitation(CODE, now=0.0), nothing)
        gateway.state = state
        assert fields(gateway.receive(message, 1.0))["type"] == "refused"
        assert gateway.state is State.FAILED
    if kind not in CLIENT_TABLE.get(state, {}):
        client = ClientSide(CODE, "a")
        client.state = state
        with pytest.raises(ProtocolError, match=f"while {state}"):
            client.receive(message)
        assert client.state is State.FAILED


@given(st.binary(max_size=2 * MAX_UNPROVEN) | st.text(max_size=100).map(str.encode))
def test_whatever_a_stranger_sends_the_gateway_only_refuses(message: bytes) -> None:
    gateway = GatewaySide(Invitation(CODE, now=0.0), nothing)
    assert fields(gateway.receive(message, 1.0))["type"] == "refused"
    assert gateway.finished


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_whatever_json_is_in_a_message_the_gateway_only_refuses(value: object) -> None:
    for message in ({"type": value}, {"type": "hello", "version": 1, "pake": value}, value):
        gateway = GatewaySide(Invitation(CODE, now=0.0), nothing)
        assert fields(gateway.receive(json.dumps(message).encode(), 1.0))["type"] == "refused"


def test_a_client_survives_every_cut_of_a_gateways_message(granter: Granter, invitation: Invitation) -> None:
    answer = GatewaySide(invitation, granter.grant).receive(ClientSide(CODE, "a").hello(), 1.0)
    for cut in range(len(answer)):
        client = ClientSide(CODE, "a")
        client.hello()
        with pytest.raises(ProtocolError):
            client.receive(answer[:cut])


def test_a_stranger_s_message_has_512_bytes_at_most(invitation: Invitation) -> None:
    gateway = GatewaySide(invitation, nothing)
    assert gateway.max_message == MAX_UNPROVEN == 512
    padded = ClientSide(CODE, "a").hello() + b" " * MAX_UNPROVEN
    assert "it has 1 to 512" in fields(gateway.receive(padded, 1.0))["reason"]


def test_a_refusal_is_shown_in_one_printable_line() -> None:
    client = ClientSide(CODE, "a")
    client.hello()
    with pytest.raises(Unauthenticated) as caught:
        client.receive(json.dumps({"type": "refused", "reason": "\x1b[2J\n" + 1000 * "x"}).encode())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_an_unknown_version_is_refused_with_a_hint(invitation: Invitation) -> None:
    gateway = GatewaySide(invitation, nothing)
    assert "same release" in fields(gateway.receive(changed(ClientSide(CODE, "a").hello(), version=2), 1.0))["reason"]


@pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 65, "\x1b[31m"])
def test_a_client_s_name_is_short_and_printable(name: str, granter: Granter, invitation: Invitation) -> None:
    with pytest.raises(ConfigError):
        ClientSide(CODE, name)
    honest = ClientSide(CODE, "a")
    honest._name = name
    gateway = GatewaySide(invitation, granter.grant)
    answer = gateway.receive(honest.hello(), 1.0)
    keys = pairing._agree(honest._pake, fields(answer)["pake"], honest._hello + answer)
    box = keys.seal(keys.client_box, {"name": name, "request": ca.new_request(ca.new_key(), "a").decode()})
    request = {"type": "request", "confirm": base64.b64encode(keys.client_mac).decode(), "box": box}
    assert "a client's name" in fields(gateway.receive(json.dumps(request).encode(), 1.0))["reason"]


# ------------------------------------------------------------------------------------------------------------- framing


@pytest.mark.parametrize("cut", range(8))
def test_a_message_survives_being_cut_anywhere(cut: int) -> None:
    raw, inbox = framed(b"hello"), Inbox()
    found = [inbox.receive(part, 100) for part in (raw[:cut], raw[cut:])]
    assert [each for each in found if each is not None] == [b"hello"]


@pytest.mark.parametrize("raw", [b"\0\0", b"\xff\xff", b"\0\x65", b"\0\1xy"])
def test_a_length_that_can_not_be_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        Inbox().receive(raw, 100)
    assert MAX_MESSAGE < 2**16


def test_the_keys_are_different_for_each_direction_and_purpose() -> None:
    one = SPAKE2_A(b"1", idA=b"a", idB=b"b")
    other = SPAKE2_B(b"1", idA=b"a", idB=b"b")
    start, answer = one.start(), other.start()
    keys = pairing._agree(one, base64.b64encode(answer).decode(), b"transcript")
    same = pairing._agree(other, base64.b64encode(start).decode(), b"transcript")
    assert keys == same
    assert len({keys.client_mac, keys.gateway_mac, keys.client_box, keys.gateway_box}) == 4
