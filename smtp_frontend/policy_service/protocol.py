"""The wire: octets into questions, actions into octets. No I/O.

    request=smtpd_access_policy           action=DUNNO
    protocol_state=RCPT                   (an empty line)
    client_address=192.0.2.7
    ...
    (an empty line)

Lines end in LF, a question ends with an empty line (https://www.postfix.org/SMTPD_POLICY_README.html). The order of
the attributes does not matter, unknown ones are ignored, and of two of one name the last holds.

Promises: never more than `MAX_REQUEST_BYTES` and one packet are kept of a question that does not end. What is no
question (no ``request=smtpd_access_policy``, a line without ``=``, a NUL, too long, too much) raises `BrokenRequest`,
and so does everything after it: where the next question begins cannot be known. An answer is one line of printable
ASCII that begins with one of the actions in `ACTIONS` or a code, whatever text it was made of.

>>> decoder = Decoder()
>>> decoder.feed(b"request=smtpd_access_policy\\nprotocol_state=RCPT\\n")
>>> decoder.next()
>>> decoder.feed(b"sender=a@example.com\\n\\n")
>>> decoder.next().sender
'a@example.com'
>>> encoded("451 4.7.1 Too much\\naction=OK")
b'action=451 4.7.1 Too much?action=OK\\n\\n'
"""

import re

from reputation.errors import ReputonError
from smtp_frontend.policy_service.requests import Request

MAX_LINE_BYTES = 8_192
"""An attribute. Addresses have some hundred octets, subjects of certificates some thousand."""
MAX_ATTRIBUTES = 100
"""Postfix 3.8 sends 32."""
MAX_REQUEST_BYTES = 65_536
MAX_ACTION_LENGTH = 1_000
"""Octets of an answer; Postfix cuts what it reads at 2,048 (`line_length_limit`)."""

ACTIONS = frozenset({"DUNNO", "DEFER_IF_PERMIT", "DISCARD", "PREPEND"})
"""Besides codes, the actions of access(5) that are ever answered. OK is none of them: it would end the list of
restrictions, and what stands below ours would not be asked."""
KIND_OF_REQUEST = "smtpd_access_policy"

_CODE = re.compile(r"[45]\d\d")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_END = b"\n\n"


class BrokenRequest(ReputonError):
    """What came is no question. The text says why."""


class Decoder:
    """The questions of one connection, out of octets in pieces of any size."""

    __slots__ = ("_broken", "_octets", "_searched")

    def __init__(self) -> None:
        self._octets = bytearray()
        self._searched = 0
        self._broken = ""

    def __len__(self) -> int:
        """Octets that wait to be read as questions."""
        return len(self._octets)

    def feed(self, octets: bytes | bytearray | memoryview) -> None:
        """Take octets that have come; what follows a broken question is dropped."""
        if not self._broken:
            self._octets += octets

    def next(self) -> Request | None:
        """The next whole question, None when there is none yet. Raises `BrokenRequest`."""
        if self._broken:
            raise BrokenRequest(self._broken)
        try:
            return self._next()
        except BrokenRequest as error:
            self._broken = str(error)
            self._octets = bytearray()
            raise

    def _next(self) -> Request | None:
        octets = self._octets
        end = octets.find(_END, self._searched)
        if end < 0:
            self._check_unfinished()
            self._searched = max(0, len(octets) - 1)
            return None
        if end > MAX_REQUEST_BYTES:
            raise BrokenRequest(f"a question of more than {MAX_REQUEST_BYTES} octets")
        request = _request(bytes(octets[:end]))
        del octets[: end + len(_END)]
        self._searched = 0
        return request

    def _check_unfinished(self) -> None:
        octets = self._octets
        if octets.startswith(b"\n"):
            raise BrokenRequest("an empty question")
        if len(octets) > MAX_REQUEST_BYTES:
            raise BrokenRequest(f"a question of more than {MAX_REQUEST_BYTES} octets")
        if len(octets) - octets.rfind(b"\n") > MAX_LINE_BYTES + 1:
            raise BrokenRequest(f"a line of more than {MAX_LINE_BYTES} octets")


def _request(octets: bytes) -> Request:
    """The question in the lines of one, without the empty line. Raises `BrokenRequest`."""
    if b"\0" in octets:
        raise BrokenRequest("a NUL")
    lines = octets.decode("utf-8", "surrogateescape").split("\n")
    if len(lines) > MAX_ATTRIBUTES:
        raise BrokenRequest(f"more than {MAX_ATTRIBUTES} attributes")
    if len(octets) > MAX_LINE_BYTES and max(map(len, octets.split(b"\n"))) > MAX_LINE_BYTES:
        raise BrokenRequest(f"a line of more than {MAX_LINE_BYTES} octets")
    try:
        attributes = dict([line.split("=", 1) for line in lines])
    except ValueError:
        raise BrokenRequest("a line without =") from None
    if attributes.get("request") != KIND_OF_REQUEST:
        raise BrokenRequest(f"not request={KIND_OF_REQUEST}")
    return Request.of(attributes)


def encoded(action: str) -> bytes:
    """An answer as it goes over the wire. Raises `ValueError` for an action that we never answer."""
    word = action.partition(" ")[0]
    if word not in ACTIONS and not _CODE.fullmatch(word):
        raise ValueError(f"{word!r} is no action of ours")
    return b"action=%b\n\n" % _UNPRINTABLE.sub("?", action[:MAX_ACTION_LENGTH]).encode("ascii")
