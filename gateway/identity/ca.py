"""The gateway's own small CA: who has a certificate from it has been paired with this gateway, and with no other.

    identity/            mode 700
        ca.pem ca.key            the CA, made once, 20 years
        server.pem server.key    what the gateway shows, 5 years, made anew in time
        clients.json             see `clients`

Keys are EC P-256. A certificate is for one purpose: a client's can't be used to stand in for the gateway. Each begins
30 days before it was made, since clocks differ, and never before 2025: a Pi without a battery may think it is 1970.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import ConfigError, ProtocolError
from gateway.identity.places import check_secret, gateway_folder, locked, read_bounded, write_private
from gateway.identity.principal import fingerprint

CA_CERTIFICATE: Final = "ca.pem"
CA_KEY: Final = "ca.key"
SERVER_CERTIFICATE: Final = "server.pem"
SERVER_KEY: Final = "server.key"

CA_LIFE: Final = timedelta(days=20 * 365)
CLIENT_LIFE: Final = timedelta(days=10 * 365)
SERVER_LIFE: Final = timedelta(days=5 * 365)
RENEW_BEFORE: Final = timedelta(days=365)
SKEW: Final = timedelta(days=30)
EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""No clock that shows less is right."""
MAX_NAME: Final = 64
"""Characters of a client's name: what a common name may have (RFC 5280, ub-common-name)."""
MAX_PEM: Final = 8 * 1024

PrivateKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, in PEM, and its fingerprint."""

    certificate: bytes
    fingerprint: str


class Authority:
    """The CA in a folder. `now` says what time it is, for tests."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: PrivateKey) -> None:
        self.folder = folder
        self.certificate = certificate
        self._key = key

    @classmethod
    def open(cls, folder: Path | None = None, *, now: datetime | None = None) -> Self:
        """The CA in `folder` (default: `gateway_folder()`), made with a server certificate where there is none yet.

        A server certificate that ends within a year is made anew. Raises ConfigError for files that can't be read,
        written or understood, and for keys that others may read.
        """
        folder = folder or gateway_folder()
        when = _sane(now or datetime.now(UTC))
        with locked(folder):
            if read_bounded(folder / CA_CERTIFICATE) is None:
                _make_ca(folder, when)
            authority = cls(folder, read_certificate(folder / CA_CERTIFICATE), read_key(folder / CA_KEY))
            authority._keep_server_certificate(when)
        return authority

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return _pem(self.certificate)

    def issue(self, public_key: ec.EllipticCurvePublicKey, name: str, *, now: datetime | None = None) -> Issued:
        """A client certificate for that key. Raises ConfigError for a name that no certificate takes."""
        check_client_name(name)
        when = _sane(now or datetime.now(UTC))
        end = min(when + CLIENT_LIFE, self.certificate.not_valid_after_utc)
        builder = _builder(name, self.certificate.subject, public_key, when, end)
        made = self._sign(_for_purpose(builder, ExtendedKeyUsageOID.CLIENT_AUTH))
        return Issued(_pem(made), fingerprint(der(made)))

    def _keep_server_certificate(self, now: datetime) -> None:
        path = self.folder / SERVER_CERTIFICATE
        if read_bounded(path) is not None and (self.folder / SERVER_KEY).exists():
            kept = read_certificate(path)
            if kept.issuer == self.certificate.subject and kept.not_valid_after_utc > now + RENEW_BEFORE:
                return
        key = new_key()
        end = min(now + SERVER_LIFE, self.certificate.not_valid_after_utc)
        builder = _builder("instrument-gateway", self.certificate.subject, key.public_key(), now, end)
        builder = builder.add_extension(x509.SubjectAlternativeName(_own_names()), critical=False)
        made = self._sign(_for_purpose(builder, ExtendedKeyUsageOID.SERVER_AUTH))
        write_private(self.folder / SERVER_KEY, key_pem(key))
        write_private(path, _pem(made))

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        return builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())


# -- keys and requests --------------------------------------------------------------------------------------------


def new_key() -> PrivateKey:
    """A key of one's own."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """The key as a PEM file, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_request(key: PrivateKey, name: str) -> bytes:
    """A signing request in PEM, which proves that whoever sends it has the key."""
    check_client_name(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def requested_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request is for; whatever else it asks is not looked at. Raises ProtocolError."""
    try:
        if len(pem) > MAX_PEM:
            raise ValueError("too large")
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        if not request.is_signature_valid:
            raise ValueError("its signature is wrong")
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as problem:
        raise ProtocolError(f"that is no certificate request: {problem}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProtocolError("a certificate request is for a key on the curve P-256")
    return key


def check_issued(ca_pem: bytes, certificate_pem: bytes, key: PrivateKey) -> None:
    """Raise ProtocolError unless the certificate is that CA's, for a client, and for this very key."""
    try:
        if len(ca_pem) > MAX_PEM or len(certificate_pem) > MAX_PEM:
            raise ValueError("too large")
        ca, made = x509.load_pem_x509_certificate(ca_pem), x509.load_pem_x509_certificate(certificate_pem)
        made.verify_directly_issued_by(ca)
        ca.verify_directly_issued_by(ca)
        if not ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise ValueError("no CA")
        purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.ExtensionNotFound) as problem:
        raise ProtocolError(f"the gateway sent no certificate that can be used: {problem or 'wrong issuer'}") from None
    if made.public_key() != key.public_key() or list(purposes) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise ProtocolError("the gateway sent a certificate for another key or another purpose")


def der(certificate: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def check_client_name(name: str) -> None:
    """Raise ConfigError unless a client can be called so."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip() or "\ufffd" in name:
        raise ConfigError(
            f"a client's name is 1 to {MAX_NAME} printable characters without blanks at its ends, not {name[:80]!r}"
        )


# -- files --------------------------------------------------------------------------------------------------------


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in the file. Raises ConfigError."""
    data = _there(path)
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise ConfigError(f"{path}: holds no certificate; restore it, or remove the whole folder") from None


def read_key(path: Path) -> PrivateKey:
    """The private key in the file. Raises ConfigError, also where others may read it."""
    data = _there(path)
    check_secret(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: holds no private key; restore it, or remove the whole folder")
    return key


def _there(path: Path) -> bytes:
    data = read_bounded(path)
    if data is None:
        raise ConfigError(f"{path}: no such file; restore it, or remove the whole folder and pair all clients again")
    return data


# -- making certificates ------------------------------------------------------------------------------------------


def _make_ca(folder: Path, now: datetime) -> None:
    key = new_key()
    serial = x509.random_serial_number()
    # The number tells the CAs of two gateways apart where people see them.
    name = f"instrument-gateway {serial % 0x100000000:08x}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = _usage(signs_certificates=True)
    builder = (
        _builder(name, subject, key.public_key(), now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    write_private(folder / CA_KEY, key_pem(key))
    write_private(folder / CA_CERTIFICATE, _pem(builder.sign(key, hashes.SHA256())))


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _for_purpose(builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _own_names() -> Sequence[x509.GeneralName]:
    """For clients that compare names; ours ask for this very CA instead."""
    host = socket.gethostname()
    short = host.partition(".")[0]
    names = dict.fromkeys(name for name in (host, short, f"{short}.local", "localhost") if name.isascii() and name)
    addresses = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    return [*(x509.DNSName(name) for name in names), *(x509.IPAddress(address) for address in addresses)]


def _sane(now: datetime) -> datetime:
    return max(now, EARLIEST + SKEW)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
