"""The gateway's list of clients: who is let in, across processes, and who hears of a revocation."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import Ambiguous, ConfigError, NotFound, Unauthenticated
from gateway.identity.clients import SEEN_EVERY_S, Client, Clients
from gateway.identity.places import write_private
from gateway.identity.principal import Kind, Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ALICE, BOB = "a" * 64, "b" * 64


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "identity")


def test_an_empty_list_lets_nobody_in(clients: Clients) -> None:
    assert clients.all() == ()
    with pytest.raises(Unauthenticated, match="not in the list of clients"):
        clients.admit(ALICE)
    with pytest.raises(NotFound, match="paired: none yet"):
        clients.named("alice")


def test_who_was_added_is_let_in_with_its_roles(clients: Clients) -> None:
    added = clients.add("alice", ALICE, role=Role.OBSERVE, devices={"psu1": Role.ADMIN}, now=NOW)
    assert clients.admit(ALICE) == added
    principal = added.principal
    assert (principal.name, principal.kind, principal.fingerprint) == ("alice", Kind.CERTIFICATE, ALICE)
    assert (principal.role("dmm1"), principal.role("psu1")) == (Role.OBSERVE, Role.ADMIN)
    assert stat.S_IMODE((clients.folder / "clients.json").stat().st_mode) == 0o600


def test_what_another_process_writes_holds_at_once(clients: Clients) -> None:
    assert clients.all() == ()
    script = "import sys; from pathlib import Path; from gateway.identity.clients import Clients; "
    change = {
        "add": f"Clients(Path(sys.argv[1])).add('alice', {ALICE!r})",
        "revoke": "Clients(Path(sys.argv[1])).revoke('alice')",
    }
    subprocess.run([sys.executable, "-c", script + change["add"], str(clients.folder)], check=True)
    assert clients.admit(ALICE).name == "alice"
    subprocess.run([sys.executable, "-c", script + change["revoke"], str(clients.folder)], check=True)
    with pytest.raises(Unauthenticated, match="alice was revoked on 20"):
        clients.admit(ALICE)


def test_many_that_add_at_once_lose_nobody_and_share_no_name(clients: Clients) -> None:
    threads = [threading.Thread(target=clients.add, args=("alice", f"{each:064x}")) for each in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [client.name for client in clients.all()]
    assert sorted(names) == sorted(["alice", *(f"alice-{number}" for number in range(2, 13))])


def test_revoking_is_for_good_and_keeps_its_day(clients: Clients) -> None:
    clients.add("alice", ALICE, now=NOW)
    first = clients.revoke("alice", now=NOW)
    assert clients.revoke("alice", now=NOW + timedelta(days=9)) == first
    assert first.revoked == NOW
    again = clients.add("alice", BOB, now=NOW)
    assert again.name == "alice-2"
    with pytest.raises(Unauthenticated):
        clients.admit(ALICE)


def test_a_client_may_be_named_by_its_fingerprint(clients: Clients) -> None:
    clients.add("alice", "ab" * 32)
    clients.add("bob", "ab" * 4 + "cd" * 28)
    assert clients.named("ABABABABCD").name == "bob"
    with pytest.raises(Ambiguous, match="name one by its fingerprint: abababababababab, ababababcdcdcdcd"):
        clients.named("abababab")
    with pytest.raises(NotFound, match="paired: alice, bob"):
        clients.named("ababab")


def test_everybody_who_was_revoked_is_told_of_once(clients: Clients) -> None:
    told: list[str] = []

    def fails(client: Client) -> None:
        raise RuntimeError("no matter")

    clients.on_revoked += [fails, lambda client: told.append(client.name)]
    for name, fingerprint in (("alice", ALICE), ("bob", BOB)):
        clients.add(name, fingerprint)
    clients.check()
    assert told == []
    Clients(clients.folder).revoke("alice")
    clients.check()
    clients.check()
    assert told == ["alice"]
    Clients(clients.folder).revoke("bob")
    clients.check()
    assert told == ["alice", "bob"]


def test_the_watch_tells_by_itself(clients: Clients) -> None:
    told, heard = [], threading.Event()
    clients.add("alice", ALICE)
    clients.on_revoked.append(lambda client: (told.append(client.name), heard.set()))
    clients.watch(interval_s=0.01)
    try:
        Clients(clients.folder).revoke("alice")
        assert heard.wait(5)
    finally:
        clients.close()
        clients.close()
    assert told == ["alice"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"clients": 1}',
        b'{"client": []}',
        b'{"clients": [{"name": "a", "fingerprint": "f", "role": "boss", "added": "2026-01-01T00:00:00Z"}]}',
        b'{"clients": [{"name": "a", "fingerprint": "f", "rolle": "admin", "added": "2026-01-01T00:00:00Z"}]}',
    ],
)
def test_a_broken_list_lets_nobody_in_and_stops_nothing(
    clients: Clients, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    clients.add("alice", ALICE)
    write_private(clients.folder / "clients.json", content)
    for use in (clients.all, lambda: clients.admit(ALICE), lambda: clients.add("b", BOB)):
        with pytest.raises(ConfigError, match="nobody is let in until this is mended"):
            use()
    clients.check()
    assert "nobody is let in" in caplog.text
    assert (clients.folder / "clients.json").read_bytes() == content


def test_who_was_here_is_written_down_now_and_then(clients: Clients) -> None:
    alice = clients.add("alice", ALICE)
    clients.saw(alice, now=NOW)
    assert clients.last_seen() == {ALICE: NOW}
    other = Clients(clients.folder)
    assert other.last_seen() == {}
    clients.check(now=1000.0)
    assert other.last_seen() == {ALICE: NOW}
    clients.saw(alice, now=NOW + timedelta(seconds=5))
    clients.check(now=1000.0 + SEEN_EVERY_S / 2)
    assert other.last_seen() == {ALICE: NOW}
    clients.check(now=1000.0 + SEEN_EVERY_S)
    assert other.last_seen() == {ALICE: NOW + timedelta(seconds=5)}
    clients.saw(alice, now=NOW + timedelta(seconds=9))
    clients.close()
    assert other.last_seen() == {ALICE: NOW + timedelta(seconds=9)}


def test_what_was_seen_may_be_broken(clients: Clients) -> None:
    clients.add("alice", ALICE)
    write_private(clients.folder / "seen.json", b"{")
    assert clients.last_seen() == {}
