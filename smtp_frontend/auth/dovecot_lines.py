r"""What is said to Dovecot's authentication service, and what it says: lines of words with tabs between them.

The client's side of the protocol, version 1. We say that a connection was by TLS, because AUTH is offered by TLS only.
We ask for no penalty: Dovecot would hold up whoever has failed for up to 15 seconds, longer than our deadline, and his
next failure would look like our trouble. Who guesses is the business of our rules.

>>> request(7, Credentials(login="a", password="b"), "192.0.2.7")
b'AUTH\t7\tPLAIN\tservice=smtp\tnologin\tno-penalty\tsecured\trip=192.0.2.7\tresp=AGEAYg==\n'
>>> parse(b"FAIL\t7\tuser=a\ttemp")
Answer(number=7, verdict=<Verdict.TROUBLE: 'trouble'>, user='a')
"""

import base64
import re
from dataclasses import dataclass
from enum import StrEnum

from smtp_frontend.auth.credentials import Credentials

VERSION = b"VERSION\t1\t1\n"
MAJOR_VERSION = b"1"
MAX_LINE_OCTETS = 8_192
MAX_NUMBER = 2**31

_TROUBLES = frozenset({"temp", "code=temp_fail"})
_FORBIDDEN = "nologin"
"""In an answer OK: the password is right, and he may not log in all the same."""
_UNESCAPED = {"0": "\0", "1": "\1", "t": "\t", "n": "\n", "r": "\r"}


class Verdict(StrEnum):
    """What an answer says."""

    RIGHT = "right"
    WRONG = "wrong"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one request."""

    number: int
    verdict: Verdict
    user: str = ""
    """Dovecot's name for who has logged in; empty when it says none."""


class NonsenseError(ValueError):
    """A line that Dovecot does not say. The text shows a harmless part of it."""


def greeting(process: int) -> bytes:
    """What the client begins with; `process` is any number but 0."""
    return VERSION + b"CPID\t%d\n" % process


def request(number: int, credentials: Credentials, client: str) -> bytes:
    """Ask whether a password is right."""
    message = f"\0{credentials.login}\0{credentials.password}".encode()
    words = ["AUTH", str(number), "PLAIN", "service=smtp", "nologin", "no-penalty", "secured"]
    if client:
        words.append(f"rip={client}")
    words.append(f"resp={base64.b64encode(message).decode('ascii')}")  # it must be the last
    return "\t".join(words).encode() + b"\n"


def parse(line: bytes) -> Answer | None:
    """The answer in a line, None in one that is none; raises `NonsenseError`."""
    kind, *words = line.split(b"\t")
    if kind not in {b"OK", b"FAIL", b"CONT"}:
        return None
    if not words or not words[0].isdigit() or len(words[0]) > 10:
        raise NonsenseError(f"an answer without its number: {line[:40]!r}")
    said = [unescaped(word.decode("utf-8", "replace")) for word in words[1:]]
    user = next((word.removeprefix("user=") for word in said if word.startswith("user=")), "")
    return Answer(number=int(words[0]), verdict=_verdict(kind, said), user=user)


def _verdict(kind: bytes, said: list[str]) -> Verdict:
    if kind == b"OK":
        return Verdict.WRONG if _FORBIDDEN in said else Verdict.RIGHT
    if kind == b"CONT" or _TROUBLES.intersection(said):  # PLAIN has nothing to continue with
        return Verdict.TROUBLE
    return Verdict.WRONG


def unescaped(word: str) -> str:
    r"""A word as it was before Dovecot took tabs and the like out of it.

    >>> unescaped("a\1tb\0011")
    'a\tb\x01'
    """
    return re.sub("\1(.)", lambda match: _UNESCAPED.get(match[1], match[1]), word, flags=re.DOTALL)
