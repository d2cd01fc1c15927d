"""ClamAV's daemon: INSTREAM (clamd(8)), a message in pieces with their lengths before them.

    zINSTREAM\\0 (length)(piece) (length)(piece) 0         stream: Win.Test.EICAR_HDB-1 FOUND\\0

What it finds is malware. What it does not find is no evidence that a message is wanted: then it has no verdict. That a
file could not be looked into (``Heuristics.Limits.Exceeded``, ``Heuristics.Encrypted``, where clamd.conf has it say so)
is unsure.

clamd takes messages up to its StreamMaxLength, 100 MB as it comes. A longer one has no answer (temperror): `max_bytes`
belongs below it.

Bugs: no TLS, and no password, which clamd does not have; it listens on this machine or in this network.
"""

import re
from collections.abc import Iterator

from reputation.events import Data
from reputation.facts import Filtered, Judgement
from reputation.lookups.filters import wording
from reputation.lookups.filters.address import Address
from reputation.lookups.filters.conversation import converse, pieces_of

MAX_NAME_LENGTH = 100
NO_FINDS = ("Heuristics.Limits.Exceeded", "Heuristics.Encrypted")
_FOUND = re.compile(rb"stream: (.+) FOUND")
_TOO_LONG = b"INSTREAM size limit exceeded"


class Clamd:
    """Asks one clamd, with a connection for each message."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def ask(self, event: Data, rdns: str) -> Filtered | None:  # noqa: ARG002 - what others want to know
        """What it says, None for what cannot be read. Raises OSError when it cannot be reached."""
        heard = await converse(self._address, _question(event))
        if heard.startswith(_TOO_LONG):
            raise ConnectionError("the message is longer than clamd's StreamMaxLength; max_bytes belongs below it")
        return answer_of(heard)

    async def ping(self) -> bool:
        """Whether it answers at all."""
        return (await converse(self._address, [b"zPING\0"])).startswith(b"PONG")

    async def close(self) -> None:
        """Nothing is kept open."""


def _question(event: Data) -> Iterator[bytes]:
    yield b"zINSTREAM\0"
    for piece in pieces_of(event.content):
        yield len(piece).to_bytes(4, "big") + piece
    yield bytes(4)


def answer_of(octets: bytes) -> Filtered | None:
    """What an answer says; None for one that is none, cut off, or word of a failure.

    >>> answer_of(b"stream: Eicar FOUND\\0").malware, answer_of(b"stream: OK\\0").verdict, answer_of(b"stream: OK")
    ('Eicar', '', None)
    """
    text, end, _ = octets.partition(b"\0")
    if not end:
        return None
    if text == b"stream: OK":
        return Filtered()
    found = _FOUND.fullmatch(text)
    if found is None:
        return None
    name = wording.line(found[1].decode("ascii", "replace"), MAX_NAME_LENGTH)
    if name.startswith(NO_FINDS):
        return Filtered(verdict=Judgement.UNSURE, symbols=(name,))
    return Filtered(verdict=Judgement.MALWARE, malware=name)
