"""SpamAssassin's daemon, in the words of its protocol (SPAMC 1.5, ``PROTOCOL`` in its sources).

    SYMBOLS SPAMC/1.5                        SPAMD/1.1 0 EX_OK
    Content-length: 2345                     Content-length: 20
    User: bob@example.net                    Spam: True ; 6.5 / 5.0

    (the message)                            BAYES_99,URIBL_BLACK

It learns of client and envelope from the top of the message only, so a Return-Path and a Received field that say them
go before it. The user, whose preferences count, is the recipient where there is just one with a plain name.

*Considered:* aiospamc, which is maintained. It holds typer below 0.17, brings a second logging library, and joins a
message three times; what it would do for us is forty lines here.

Bugs: no TLS; spamd listens on this machine or in this network.
"""

import re
from collections.abc import Iterator
from email.utils import formatdate

from reputation.clock import Clock
from reputation.events import Data
from reputation.facts import Filtered, Judgement
from reputation.lookups.filters import wording
from reputation.lookups.filters.address import Address
from reputation.lookups.filters.conversation import converse, pieces_of
from reputation.lookups.names import unmapped

MAX_SYMBOLS = 300
MAX_NAME_LENGTH = 100
_OK = re.compile(rb"SPAMD/[0-9.]{1,8} 0 ")
_LENGTH = re.compile(rb"^Content-length:[ \t]*([0-9]{1,9})[ \t]*$", re.I | re.M)
_SPAM = re.compile(rb"^Spam:[ \t]*(True|Yes|False|No)[ \t]*;[ \t]*(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)[ \t]*/", re.I | re.M)
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,63}@[A-Za-z0-9.-]{1,255}")
_NO_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")


class Spamd:
    """Asks one spamd, with a connection for each message: it takes one question from each."""

    def __init__(self, address: Address, clock: Clock, hostname: str) -> None:
        self._address = address
        self._clock = clock
        self._hostname = hostname

    async def ask(self, event: Data, rdns: str) -> Filtered | None:
        """What it says, None for what cannot be read. Raises OSError when it cannot be reached."""
        return answer_of(await converse(self._address, self._question(event, rdns)))

    async def ping(self) -> bool:
        """Whether it answers at all."""
        return (await converse(self._address, [b"PING SPAMC/1.5\r\n\r\n"])).startswith(b"SPAMD/")

    async def close(self) -> None:
        """Nothing is kept open."""

    def _question(self, event: Data, rdns: str) -> Iterator[bytes]:
        top = top_of(event, rdns=rdns, hostname=self._hostname, now=self._clock.now())
        user = event.recipients[0] if len(event.recipients) == 1 else ""
        lines = ["SYMBOLS SPAMC/1.5", f"Content-length: {len(top) + len(event.content)}"]
        if _USER.fullmatch(user):
            lines.append(f"User: {user}")
        yield "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii") + top
        yield from pieces_of(event.content)


def top_of(event: Data, *, rdns: str, hostname: str, now: float) -> bytes:
    """The fields that say who sent the message: where SpamAssassin looks for them, in words that it knows."""
    client = unmapped(event.session.client)
    address = f"IPv6:{client}" if client.version == 6 else str(client)
    helo = _NO_HOST.sub("?", event.session.helo[:255]) or "unknown"
    seen = f"{_NO_HOST.sub('?', rdns)} [{address}]" if rdns else f"[{address}]"
    protocol = f"ESMTP{'S' if event.session.tls else ''}{'A' if event.session.user else ''}"  # RFC 3848
    by = f"by {_NO_HOST.sub('?', hostname) or 'localhost'} with {protocol} id {_NO_HOST.sub('?', event.session.id)}"
    received = f"Received: from {helo} ({seen})\r\n\t{by};\r\n\t{formatdate(now)}\r\n"
    return f"Return-Path: {wording.path(event.sender)}\r\n{received}".encode("ascii")


def answer_of(octets: bytes) -> Filtered | None:
    """What an answer says; None for one that is none, cut off, or word of a failure."""
    head, blank, body = octets.partition(b"\r\n\r\n")
    lines = head.replace(b"\r\n", b"\n")
    length, found = _LENGTH.search(lines), _SPAM.search(lines)
    if not blank or not _OK.match(lines) or not found or (length and len(body) < int(length[1])):
        return None
    names = [name.strip() for name in body.decode("ascii", "replace").split(",")]
    return Filtered(
        verdict=Judgement.SPAM if found[1].lower() in (b"true", b"yes") else Judgement.HAM,
        score=float(found[2]),
        symbols=tuple(wording.line(name, MAX_NAME_LENGTH) for name in names if name)[:MAX_SYMBOLS],
    )
