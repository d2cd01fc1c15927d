"""From when to when a certificate is valid, out of its PEM text. No I/O.

The standard library tells this of a peer's certificate only. A certificate begins as any other does (RFC 5280 section
4.1), so no more is read of it than that:

    SEQUENCE                        the certificate
        SEQUENCE                    what is signed
            [0]                     the version, unless it is 1
            INTEGER                 the serial number
            SEQUENCE                how it is signed
            SEQUENCE                by whom
            SEQUENCE                UTCTime or GeneralizedTime, twice

Does not: verify anything. OpenSSL does, when it loads the file.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END ")
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3
"""Serial number, algorithm, issuer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """When a certificate is valid: seconds since the epoch."""

    begins_at: float
    ends_at: float


def dates_of(pem: bytes) -> Dates:
    """Of the first certificate in a PEM file, which is the server's. Raises `ValueError`."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("no certificate in it")
    signed = _inside(_inside(b64decode(match[1])))
    fields = [content for tag, content in _elements(signed) if tag != _VERSION]
    if len(fields) <= _BEFORE_VALIDITY:
        raise ValueError("a certificate without dates")
    times = [_time(tag, text) for tag, text in _elements(fields[_BEFORE_VALIDITY])]
    if len(times) != 2:
        raise ValueError("a certificate with other dates than two")
    return Dates(begins_at=times[0], ends_at=times[1])


def _inside(octets: bytes) -> bytes:
    """What is in the sequence that `octets` begin with."""
    tag, content = next(_elements(octets), (0, b""))
    if tag != _SEQUENCE:
        raise ValueError("not a certificate")
    return content


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of the elements in a row. Raises `ValueError` where one is cut off."""
    at = 0
    while at < len(octets):
        size_at = at + 2
        size = int.from_bytes(octets[at + 1 : size_at])
        if size & 0x80:  # the length of the length
            size_at, long = size_at + (size & 0x7F), octets[size_at : size_at + (size & 0x7F)]
            size = int.from_bytes(long)
        if size_at + size > len(octets):
            raise ValueError("a certificate that is cut off")
        yield octets[at], octets[size_at : size_at + size]
        at = size_at + size


def _time(tag: int, octets: bytes) -> float:
    text = octets.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280 section 4.1.2.5.1: from 50 on it is 19..
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a date of another kind")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
