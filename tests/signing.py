"""Messages that are signed and sealed for a test, by dkimpy, with keys that are made for it.

    key = rsa_key(1_024)
    zone = key_record("s1", "example.org", key.record)
    message = signed(MESSAGE, key, "s1", "example.org")

RSA keys come out of a seeded generator, so that each run has the same ones; nobody should trust them.
"""

import base64
import random
from functools import lru_cache
from typing import NamedTuple

import dkim  # type: ignore[import-untyped]  # it ships no types
import nacl.encoding
import nacl.signing

MESSAGE = (
    b"Received: from mail.example.org ([192.0.2.7]) by mx.example.net;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: Alice <alice@example.org>\r\n"
    b"To: bob@example.net\r\n"
    b"Subject: a  subject\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"\r\n"
    b"Hello,\t Bob  \r\n\r\nthis is it. \r\n\r\n\r\n"
)
EXPONENT = 65_537
_SMALL_PRIMES = [
    number for number in range(3, 2_000) if all(number % other for other in range(2, int(number**0.5) + 1))
]


class SigningKey(NamedTuple):
    """A private key as dkimpy takes it, and what stands in the DNS."""

    algorithm: bytes
    private: bytes
    record: str


@lru_cache
def rsa_key(bits: int = 1_024, *, seed: int = 1, exponent: int = EXPONENT) -> SigningKey:
    """An RSA key. Takes some hundred milliseconds for 2048 bits."""
    numbers = random.Random(f"{bits} {seed}")
    p, q = _prime(numbers, bits - bits // 2, exponent), _prime(numbers, bits // 2, exponent)
    d = pow(exponent, -1, (p - 1) * (q - 1))
    parts = (0, p * q, exponent, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    private = base64.encodebytes(_sequence(*parts))
    pem = b"-----BEGIN RSA PRIVATE KEY-----\n" + private + b"-----END RSA PRIVATE KEY-----\n"
    return SigningKey(b"rsa-sha256", pem, f"v=DKIM1; k=rsa; p={public_rsa(p * q, exponent)}")


def public_rsa(modulus: int, exponent: int) -> str:
    """A public key as records have it."""
    return base64.b64encode(_sequence(modulus, exponent)).decode()


@lru_cache
def ed25519_key(seed: int = 1) -> SigningKey:
    """An Ed25519 key: RFC 8463."""
    key = nacl.signing.SigningKey(bytes([seed] * 32))
    public = key.verify_key.encode(nacl.encoding.Base64Encoder).decode()
    return SigningKey(b"ed25519-sha256", key.encode(nacl.encoding.Base64Encoder), f"v=DKIM1; k=ed25519; p={public}")


def _prime(numbers: random.Random, bits: int, exponent: int) -> int:
    while True:
        candidate = numbers.getrandbits(bits) | 1 | 3 << bits - 2
        if not all(candidate % prime for prime in _SMALL_PRIMES) or not (candidate - 1) % exponent:
            continue
        if pow(2, candidate - 1, candidate) == 1:
            return candidate


def _sequence(*numbers: int) -> bytes:
    """A DER sequence of integers."""
    content = b"".join(_der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)
    return _der(0x30, content)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def text_record(name: str, text: str) -> str:
    """A line of a zone; long texts are in pieces."""
    pieces = " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))
    return f"{name}. 300 TXT {pieces}\n"


def key_record(selector: str, domain: str, text: str) -> str:
    """Where a key is."""
    return text_record(f"{selector}._domainkey.{domain}", text)


def signed(
    message: bytes,
    key: SigningKey,
    selector: str = "s1",
    domain: str = "example.org",
    *,
    canonicalize: tuple[bytes, bytes] = (b"relaxed", b"relaxed"),
    identity: bytes | None = None,
    length: bool = False,
    algorithm: bytes = b"",
    names: list[bytes] | None = None,
) -> bytes:
    """The message with a signature on top."""
    signer = dkim.DKIM(message, signature_algorithm=algorithm or key.algorithm)
    field: bytes = signer.sign(
        selector.encode(),
        domain.encode(),
        key.private,
        identity=identity,
        canonicalize=canonicalize,
        length=length,
        include_headers=names,
    )
    return field + message


def sealed(
    message: bytes, key: SigningKey, selector: str = "s1", domain: str = "lists.example", *, cv: bytes = b"none"
) -> bytes:
    """The message with one more set of ARC fields on top."""
    server = b"mx." + domain.encode()
    results = b"Authentication-Results: " + server + b"; arc=" + cv + b"; dkim=pass header.d=example.org\r\n"
    fields = dkim.arc_sign(results + message, selector.encode(), domain.encode(), key.private, server)
    assert len(fields) == 3, fields
    return b"".join(fields) + message
