"""The gateway's CA: what its certificates say, and the files it is kept in."""

from __future__ import annotations

import base64
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.errors import ConfigError, ProtocolError
from gateway.identity import ca, places
from gateway.identity.principal import fingerprint

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> ca.Authority:
    return ca.Authority.open(tmp_path / "deep" / "identity", now=NOW)


def shown(authority: ca.Authority) -> x509.Certificate:
    return ca.read_certificate(authority.folder / ca.SERVER_CERTIFICATE)


def test_files_are_for_their_owner_alone(authority: ca.Authority) -> None:
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(authority.folder.parent.stat().st_mode) == 0o700
    files = sorted(authority.folder.iterdir())
    assert {path.name for path in files} == {"ca.pem", "ca.key", "server.pem", "server.key", ".lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_opening_it_again_gives_the_same_ca(authority: ca.Authority) -> None:
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    assert ca.Authority.open(authority.folder, now=NOW).pem == authority.pem
    assert {path.name: path.read_bytes() for path in authority.folder.iterdir()} == before


def test_several_that_make_it_at_once_agree(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(ca.Authority.open(tmp_path).pem)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_two_gateways_have_two_cas(authority: ca.Authority, tmp_path: Path) -> None:
    other = ca.Authority.open(tmp_path / "other", now=NOW)
    assert other.certificate.subject != authority.certificate.subject
    assert other.pem != authority.pem


def test_certificates_hold_for_long_and_began_before_they_were_made(authority: ca.Authority) -> None:
    issued = x509.load_pem_x509_certificate(authority.issue(ca.new_key().public_key(), "a", now=NOW).certificate)
    for certificate, life in (
        (authority.certificate, ca.CA_LIFE),
        (shown(authority), ca.SERVER_LIFE),
        (issued, ca.CLIENT_LIFE),
    ):
        assert certificate.not_valid_before_utc == NOW - ca.SKEW
        assert certificate.not_valid_after_utc == NOW + life
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"


def test_a_clock_that_shows_1970_makes_certificates_that_hold_today(tmp_path: Path) -> None:
    authority = ca.Authority.open(tmp_path, now=datetime(1970, 1, 2, tzinfo=UTC))
    for certificate in (authority.certificate, shown(authority)):
        assert certificate.not_valid_before_utc == ca.EARLIEST
        assert certificate.not_valid_after_utc > datetime(2028, 1, 1, tzinfo=UTC)


def test_no_certificate_outlives_the_ca(authority: ca.Authority) -> None:
    late = authority.certificate.not_valid_after_utc - timedelta(days=30)
    issued = x509.load_pem_x509_certificate(authority.issue(ca.new_key().public_key(), "a", now=late).certificate)
    assert issued.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_the_server_s_certificate_is_made_anew_a_year_before_it_ends(authority: ca.Authority) -> None:
    first = shown(authority)
    ca.Authority.open(authority.folder, now=NOW + ca.SERVER_LIFE - ca.RENEW_BEFORE - timedelta(days=1))
    assert shown(authority) == first
    ca.Authority.open(authority.folder, now=NOW + ca.SERVER_LIFE - ca.RENEW_BEFORE)
    renewed = shown(authority)
    assert renewed.not_valid_after_utc > first.not_valid_after_utc
    assert renewed.issuer == authority.certificate.subject


@pytest.mark.parametrize("file", [ca.SERVER_CERTIFICATE, ca.SERVER_KEY])
def test_a_server_s_certificate_that_is_gone_is_made_anew(authority: ca.Authority, file: str) -> None:
    (authority.folder / file).unlink()
    ca.Authority.open(authority.folder, now=NOW)
    assert shown(authority).public_key() == ca.read_key(authority.folder / ca.SERVER_KEY).public_key()


def test_each_certificate_is_for_one_purpose(authority: ca.Authority) -> None:
    issued = x509.load_pem_x509_certificate(authority.issue(ca.new_key().public_key(), "a").certificate)
    for certificate, purpose in (
        (shown(authority), ExtendedKeyUsageOID.SERVER_AUTH),
        (issued, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_the_fingerprint_is_that_of_the_certificate(authority: ca.Authority) -> None:
    issued = authority.issue(ca.new_key().public_key(), "a")
    made = x509.load_pem_x509_certificate(issued.certificate)
    assert issued.fingerprint == fingerprint(ca.der(made))
    assert len(issued.fingerprint) == 64


def test_a_request_must_be_signed_by_the_key_it_is_for(authority: ca.Authority) -> None:
    key = ca.new_key()
    request = ca.new_request(key, "alice")
    assert ca.requested_key(request) == key.public_key()
    raw = bytearray(x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER))
    raw[-1] ^= 1
    forged = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(ProtocolError):
        ca.requested_key(forged)


def test_keys_of_another_kind_and_nonsense_are_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        with pytest.raises(ProtocolError, match="curve P-256"):
            ca.requested_key(pem)
    for pem in (b"", b"-----BEGIN CERTIFICATE REQUEST-----", b"x" * 100_000):
        with pytest.raises(ProtocolError, match="no certificate request"):
            ca.requested_key(pem)


@pytest.mark.parametrize("file", [ca.CA_CERTIFICATE, ca.CA_KEY])
def test_files_that_are_broken_say_which_and_what_to_do(authority: ca.Authority, file: str) -> None:
    places.write_private(authority.folder / file, b"nothing")
    with pytest.raises(ConfigError, match=f"{file}: holds no .*; restore it"):
        ca.Authority.open(authority.folder)


def test_a_ca_without_its_key_is_not_replaced_in_silence(authority: ca.Authority) -> None:
    (authority.folder / ca.CA_KEY).unlink()
    with pytest.raises(ConfigError, match=r"ca\.key: no such file; restore it"):
        ca.Authority.open(authority.folder)


def test_a_key_that_others_may_read_is_refused(authority: ca.Authority) -> None:
    (authority.folder / ca.CA_KEY).chmod(0o640)
    with pytest.raises(ConfigError, match="others may read this key .*chmod 600"):
        ca.Authority.open(authority.folder)


def test_a_folder_that_can_not_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="can't make the folder"):
        ca.Authority.open(tmp_path / "file" / "identity")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    authority = ca.Authority.open(tmp_path / "identity")
    everything = [authority.folder, *authority.folder.iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in everything} == {(12345, 12345)}


def test_where_the_identity_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(places, "SYSTEM_STATE", tmp_path / "none" / "lib")
    assert places.gateway_folder() == tmp_path / "xdg" / "instrument-gateway" / "identity"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert places.gateway_folder() == tmp_path / "one" / "identity"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert places.trusted_folder() == Path.home() / ".config" / "instrument-gateway" / "trusted"
