"""SMTP answers: what a server says to a command (RFC 5321 section 4.2).

A `Reply` is one answer, ours or a next hop's: a code, an optional enhanced status code (RFC 3463) and text
of one or several lines. It prints itself as wire lines and can be read from the lines of a server:

>>> Reply(250, ("two", "lines"), "2.1.5").lines()
(b'250-2.1.5 two\\r\\n', b'250 2.1.5 lines\\r\\n')
>>> Reply.parse([b"550 5.1.1 User unknown\\r\\n"])
Reply(code=550, text='User unknown', enhanced='5.1.1', ours=False)

Promises: whatever text it is given, a reply's wire lines are printable ASCII, are never longer than 512
octets, and are never more than `MAX_LINES`; a next hop's text cannot smuggle a line into our answer.

Does not do: choosing a code, reading from a connection (`smtp_frontend.next_hop.wire` does).

Bugs: a line that is too long is cut, not folded. UTF-8 text (RFC 6531 section 3.7.4.2) becomes question
marks. An enhanced code whose class contradicts the code ("550 4.1.1") is left in the text, as it came.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from reputation.errors import ReputonError

MAX_LINE_OCTETS = 512
"""Of a reply line on the wire, with code and CRLF: RFC 5321 section 4.5.3.1.5."""
MAX_LINES = 100
"""Lines of one answer; further ones of our own are dropped, of a next hop are an error."""

MOST_REMEMBERED = 256
"""Answers that are remembered, because nearly all are among a few."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
_LINE = re.compile(rb"([2-5]\d\d)(?:([- ])(.*?))?\r?\n?", re.DOTALL)


class ReplyError(ReputonError):
    """The lines of a server that are no SMTP answer. The text says why and shows a harmless part of them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Raises `ValueError` for a code outside 200-599 or an enhanced code of another class."""

    code: int
    text: str | tuple[str, ...]
    """The text without codes; a tuple where it has several lines. Unprintable characters become "?"."""
    enhanced: str = ""
    """Enhanced status code such as "5.1.1", empty for none."""
    ours: bool = False
    """Made by us, not by the next hop. Such an answer is never evidence against anybody."""

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"{self.code} is no SMTP reply code")
        if self.enhanced and not (_ENHANCED.fullmatch(self.enhanced) and self.enhanced[0] == str(self.code)[0]):
            raise ValueError(f'"{self.enhanced}" is no enhanced code of a {self.code} reply')
        given = (self.text,) if isinstance(self.text, str) else self.text[:MAX_LINES]
        texts = [_clean(text) for text in given] or [""]
        if not self.enhanced:  # one at the beginning of the text is the same thing, and has one form only
            enhanced, texts = _split_enhanced(self.code, texts)
            object.__setattr__(self, "enhanced", enhanced)
        object.__setattr__(self, "text", texts[0] if len(texts) == 1 else tuple(texts))

    @classmethod
    def parse(cls, lines: Sequence[bytes]) -> "Reply":
        """The answer in `lines` (all lines of one answer, with or without line ends); raises `ReplyError`."""
        if len(lines) == 1:
            return _of_one_line(bytes(lines[0]))
        if not 1 <= len(lines) <= MAX_LINES:
            raise ReplyError(f"an answer of {len(lines)} lines")
        parts = [_split(line) for line in lines]
        code = parts[0][0]
        if any(other != code for other, _, _ in parts):  # RFC 5321 section 4.2.1: the same on each line
            raise ReplyError(f"codes differ between the lines of one answer, the first is {code}")
        if any(more != (index < len(parts)) for index, (_, more, _) in enumerate(parts, 1)):
            raise ReplyError("an answer that ends too early or too late")
        return cls(code, tuple(text for _, _, text in parts))

    @property
    def positive(self) -> bool:
        """2xx: done."""
        return self.code // 100 == 2

    @property
    def intermediate(self) -> bool:
        """3xx: go on."""
        return self.code // 100 == 3

    @property
    def temporary(self) -> bool:
        """4xx: not now."""
        return self.code // 100 == 4

    @property
    def permanent(self) -> bool:
        """5xx: no."""
        return self.code // 100 == 5

    @property
    def text_lines(self) -> tuple[str, ...]:
        """The text as lines, at least one."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def one_line(self) -> str:
        """For logs."""
        return str(self).replace("\r\n", " / ")

    def lines(self) -> tuple[bytes, ...]:
        """The wire lines, each with its CRLF. The enhanced code stands on every line (RFC 2034 section 4)."""
        return _lines_of(self)

    def _made_lines(self) -> tuple[bytes, ...]:
        room = MAX_LINE_OCTETS - len("250 \r\n")
        texts = [" ".join(filter(None, (self.enhanced, text)))[:room].encode("ascii") for text in self.text_lines]
        marks = [b"-"] * (len(texts) - 1) + [b" "]
        return tuple(b"%d%b%b\r\n" % (self.code, mark, text) for mark, text in zip(marks, texts, strict=True))

    def __str__(self) -> str:
        """The wire lines as text, without the last CRLF: what aiosmtpd wants from its handlers."""
        return b"".join(self.lines()).decode("ascii").removesuffix("\r\n")


def is_last_line(line: bytes) -> bool:
    """Whether an answer ends with `line`; raises `ReplyError` when it is no reply line at all."""
    return not _split(line)[1]


@lru_cache(maxsize=MOST_REMEMBERED)
def _lines_of(reply: Reply) -> tuple[bytes, ...]:
    return reply._made_lines()


@lru_cache(maxsize=MOST_REMEMBERED)
def _of_one_line(line: bytes) -> Reply:
    """The answer that is in one line, as nearly all are."""
    code, more, text = _split(line)
    if more:
        raise ReplyError("an answer that ends too early or too late")
    return Reply(code, (text,))


@lru_cache(maxsize=MOST_REMEMBERED)
def _split(line: bytes) -> tuple[int, bool, str]:
    """(code, whether more lines follow, text) of one reply line."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ReplyError(f"not a reply line: {line[:60]!r}")
    code, mark, text = match.groups()
    return int(code), mark == b"-", (text or b"").decode("ascii", "replace")


def _split_enhanced(code: int, texts: list[str]) -> tuple[str, list[str]]:
    """(enhanced code of the first line or "", texts without it)."""
    match = _ENHANCED.match(texts[0])
    enhanced = match.group() if match else ""
    if not enhanced or enhanced[0] != str(code)[0] or texts[0][len(enhanced) :][:1] not in {"", " "}:
        return "", texts
    return enhanced, [_without(text, enhanced) for text in texts]


def _without(text: str, enhanced: str) -> str:
    return "" if text == enhanced else text.removeprefix(f"{enhanced} ")


def _clean(text: str) -> str:
    """Printable ASCII, no longer than a reply line."""
    return _UNPRINTABLE.sub("?", text[:MAX_LINE_OCTETS].replace("\t", " "))
