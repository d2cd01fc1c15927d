"""``Authentication-Results`` (RFC 8601): what we have found out about whoever a message says that it is from. No I/O.

    Authentication-Results: mx.example.net;
            iprev=pass policy.iprev=192.0.2.1 (mail.example.com);
            spf=pass smtp.mailfrom=alice@example.com;
            dkim=pass header.d=example.com header.s=2026 header.b=dGVzdA;
            dmarc=pass (p=reject) header.from=example.com;
            arc=none

Mail of our own users gets none: it would tell their login and from where they send to everybody that they write to.

Our own field is the only one that may name us: one that came with the message is taken out (section 5), in whatever way
its name is written. Those of others stay. A value that a client chose is quoted, or left out where it cannot be.

Does not do: deciding anything.
"""

import re
from collections.abc import Iterator

from reputation.events import Data
from reputation.facts import LookedUp, Signature

FIELD = "Authentication-Results"
MAX_SIGNATURES = 10
MAX_VALUE_LENGTH = 320
MAX_HEAD = 1_000
"""Of a field that came along: as far as its author is looked for, behind comments."""

_FIELD = re.compile(
    rb"^Authentication-Results[ \t]*:(?P<body>[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)", re.IGNORECASE | re.MULTILINE
)
_AUTHOR = re.compile(rb'(?:[ \t\r\n]|\([^()\\]*\))*+("?)([\w.:\[\]-]++)\1(?=[ \t\r\n;])')
"""Blanks and plain comments, then a name, and what ends it. Possessive and tried at one place only, so it is linear."""
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~@.:-]+")


def field(hostname: str, event: Data, looked_up: LookedUp) -> bytes:
    """The field for a message, folded, with its last CRLF."""
    results = list(_results(event, looked_up)) or ["none"]
    return (";\r\n\t".join([f"{FIELD}: {hostname}", *results]) + "\r\n").encode("ascii")


def _results(event: Data, found: LookedUp) -> Iterator[str]:
    """One result each, in the order in which a message meets them."""
    if found.iprev:
        name = f" ({found.rdns})" if found.rdns and _PLAIN.fullmatch(found.rdns) else ""
        yield f"iprev={found.iprev} policy.iprev={_quoted(str(event.session.client))}{name}"
    if found.spf:
        identity = ("smtp.mailfrom", event.sender) if event.sender else ("smtp.helo", event.session.helo)
        yield f"spf={found.spf}{_property(*identity)}"
    if found.signatures:
        yield from map(_signature, found.signatures[:MAX_SIGNATURES])
    elif found.dkim:
        yield f"dkim={found.dkim}"
    if found.dmarc:
        policy = f" (p={found.dmarc_policy})" if found.dmarc_policy else ""
        yield f"dmarc={found.dmarc}{policy}{_property('header.from', found.dmarc_domain)}"
    if found.arc:
        yield f"arc={found.arc}"


def _signature(signature: Signature) -> str:
    parts = [
        _property("header.d", signature.domain),
        _property("header.s", signature.selector),
        _property("header.i", signature.identity),
        _property("header.b", signature.mark),
    ]
    return f"dkim={signature.result}{''.join(parts)}"


def _property(name: str, value: str) -> str:
    quoted = _quoted(value)
    return f" {name}={quoted}" if quoted else ""


def _quoted(value: str) -> str:
    """A value as RFC 8601 section 2.2 wants it; empty where it is too long or cannot be told in ASCII."""
    if not value or len(value) > MAX_VALUE_LENGTH or not (value.isascii() and value.isprintable()):
        return ""
    if _PLAIN.fullmatch(value) and ":" not in value and "=" not in value:
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def without_ours(fields: bytes, hostname: str) -> bytes:
    """A header block without results that claim to be ours, or of which one cannot tell whose they are."""
    ours = hostname.lower().rstrip(".").encode()
    return _FIELD.sub(lambda match: b"" if _author(match["body"]) in {ours, b""} else match[0], fields)


def _author(body: bytes) -> bytes:
    """Whom a field names as its author (the authserv-id); empty where that is written in a way that could deceive."""
    found = _AUTHOR.match(body[:MAX_HEAD])
    return found[2].lower().rstrip(b".") if found else b""
