"""The client's list of the gateways it was paired with."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.channels import parse_url
from gateway.errors import ConfigError, NotFound
from gateway.identity.places import write_private
from gateway.identity.trust import Facts, Trusted, TrustStore, own_name

FILES = {"ca": b"ca", "certificate": b"certificate", "key": b"key"}


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "trusted")


def keep(store: TrustStore, name: str = "bench", id_: str = "1", host: str = "127.0.0.1", port: int = 18871) -> Trusted:
    return store.keep(Facts(name=name, id=id_, host=host, port=port), **FILES)


def test_nothing_is_trusted_at_first(store: TrustStore) -> None:
    assert store.all() == ()
    assert store.named("bench") is None
    with pytest.raises(NotFound, match="trusted: none"):
        store.forget("bench")


def test_what_was_kept_is_found_by_name_id_and_address(store: TrustStore) -> None:
    kept = keep(store)
    assert store.named("bench") == store.named("BENCH") == store.with_id("1") == store.at("127.0.0.1", 18871) == kept
    assert store.at("localhost", 18871) == kept
    for missing in (store.named("bench2"), store.with_id("2"), store.at("127.0.0.1", 1), store.at("192.0.2.1", 18871)):
        assert missing is None


def test_files_are_for_their_owner_alone(store: TrustStore) -> None:
    folder = keep(store).folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("ca.pem", "client.pem", "client.key", "gateway.json"), 0o600
    )


@pytest.mark.parametrize("name", ["bench", "bench 3 (2)", "../../etc", ".hidden", "laboratório/ß", "a" * 63])
def test_any_name_that_a_gateway_may_have_can_be_kept(store: TrustStore, name: str) -> None:
    kept = keep(store, name, id_="abc.1")
    assert kept.folder.parent == store.folder
    assert store.named(name) == kept


def test_a_url_of_it_is_read_back_whatever_the_folder_is_called(tmp_path: Path) -> None:
    kept = keep(TrustStore(tmp_path / "fold er&x=%41?"), host="fe80::1%eth0")
    parsed = parse_url(kept.url)
    assert (parsed.scheme, parsed.host, parsed.port) == ("tls", "fe80::1%eth0", 18871)
    assert parsed.options.identity == str(kept.folder)


def test_pairing_again_with_the_same_gateway_replaces_its_files(store: TrustStore) -> None:
    keep(store)
    store.keep(Facts(name="bench", id="1", host="10.0.0.9", port=4), ca=b"new", certificate=b"n", key=b"n")
    (only,) = store.all()
    assert (only.facts.host, (only.folder / "ca.pem").read_bytes()) == ("10.0.0.9", b"new")


def test_another_gateway_does_not_take_the_name(store: TrustStore) -> None:
    keep(store)
    with pytest.raises(ConfigError, match=r"another gateway \(id 1\) is trusted as 'bench'; choose a name with --as"):
        keep(store, id_="2")
    assert store.named("bench") == keep(store)


def test_a_gateway_that_moved_is_remembered_there(store: TrustStore) -> None:
    moved = store.moved(keep(store), "10.0.0.7", 5)
    assert store.named("bench") == moved
    assert (moved.facts.host, moved.facts.port) == ("10.0.0.7", 5)


def test_forgetting_removes_the_key(store: TrustStore) -> None:
    folder = keep(store).folder
    store.forget("bench")
    assert not folder.exists()
    assert store.all() == ()
    assert [path.name for path in store.folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": "", "id": "1", "host": "h", "port": 1}', b"[1]"])
def test_broken_facts_say_where_and_what_to_do(store: TrustStore, content: bytes) -> None:
    write_private(keep(store).folder / "gateway.json", content)
    with pytest.raises(ConfigError, match=r"gateway\.json.*pair again"):
        store.all()


@pytest.mark.parametrize(
    "wrong",
    [{"name": "x\n"}, {"name": "ü" * 32}, {"id": ""}, {"id": "a/b"}, {"port": 0}, {"port": 70000}, {"host": ""}],
)
def test_facts_that_can_not_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Facts(**{"name": "bench", "id": "1", "host": "h", "port": 1, **wrong})  # type: ignore[arg-type]


def test_this_computer_has_a_name_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "alice\x1b")
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert own_name().startswith("alice@")
    assert own_name().isprintable()
