"""From when to when a certificate is valid: the one fact of X.509 that a doctor needs, read from its DER.

Certificate  SEQUENCE
  TBSCertificate  SEQUENCE
    [0] version?  INTEGER serial  SEQUENCE algorithm  SEQUENCE issuer  SEQUENCE { Time notBefore, Time notAfter } ...
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18


@dataclass(frozen=True, slots=True)
class Validity:
    """Seconds since 1970."""

    not_before: float
    not_after: float


def validity(pem: str) -> Validity:
    """Of the first certificate in `pem`. Raises ValueError if there is none."""
    begin, end = pem.find("-----BEGIN CERTIFICATE-----"), pem.find("-----END CERTIFICATE-----")
    if not 0 <= begin < end:
        raise ValueError("no certificate in it")
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end] + "-----END CERTIFICATE-----\n")
    to_be_signed = _inside(_inside(der, SEQUENCE), SEQUENCE)
    tag, _, rest = _element(to_be_signed)
    for _ in range(3 if tag == VERSION else 2):  # serial number, algorithm, issuer
        _, _, rest = _element(rest)
    first, second = _times(_inside(rest, SEQUENCE))
    return Validity(first, second)


def _times(data: bytes) -> tuple[float, float]:
    found = []
    for _ in range(2):
        tag, content, data = _element(data)
        if tag not in (UTC_TIME, GENERALIZED_TIME):
            raise ValueError("no time where one should be")
        text = content.decode("ascii")
        if tag == UTC_TIME:
            text = ("19" if text[:2] >= "50" else "20") + text
        found.append(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
    return found[0], found[1]


def _inside(data: bytes, tag: int) -> bytes:
    found, content, _ = _element(data)
    if found != tag:
        raise ValueError("not a certificate")
    return content


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content, and what follows."""
    if len(data) < 2:
        raise ValueError("cut off")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length that no certificate has")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise ValueError("cut off")
    return tag, data[start : start + length], data[start + length :]
