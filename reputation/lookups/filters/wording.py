"""Texts of strangers, made such that they are one value and nothing else, for filters and from them. Pure.

What a client chose (HELO, addresses, log-in) becomes the value of a header field of a request. A CR or LF in it would
begin a further field, and rspamd ends a field at a bare LF as well, so a ``Flags: skip`` could be said in a HELO.
Percent-encoding is no way out, rspamd does not decode it: what cannot be printed becomes a question mark. Likewise
what filters say, which quotes the message.
"""

import re
from email.header import Header

MAX_VALUE_LENGTH = 1_000
"""Of a value that a client chose; RFC 5321 section 4.5.3.1 has none longer than 512 octets."""
MAX_REPLY_LENGTH = 400
"""RFC 5321 section 4.5.3.1.5: a reply line has 512 octets, and has a code in it."""
MAX_FIELD_LENGTH = 8_000
_FOLD = re.compile(r"(?:(?<![ \t])[ \t]++)?(?:\r\n|\r|\n)[ \t]*")
_NAME = re.compile(r"[!-9;-~]{1,76}")
"""Of a field of a message: RFC 5322 section 3.6.8."""
_SEPARATORS = re.compile(r'[,"]')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"@[^",]*')


def value(text: str) -> str:
    """A value that a client chose, on one line.

    >>> value("mail.example\\r\\nFlags: skip"), value("b\\u00fccher"), value("\\ud800\\x7f")
    ('mail.example??Flags: skip', 'b\\xfccher', '??')
    """
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_VALUE_LENGTH])


def ascii_value(text: str) -> str:
    """The same in printable ASCII."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:MAX_VALUE_LENGTH])


def path(address: str) -> str:
    """An address in angle brackets. rspamd reads several where a comma is not quoted, and none that is not ASCII.

    >>> path("a@b.example"), path(""), path('"a,b"@c.example'), path("a@b,x@c.example"), path('a"@b')
    ('<a@b.example>', '<>', '<"a,b"@c.example>', '<a@b?x@c.example>', '<a?@b>')
    """
    text = re.sub(r"[<>]", "?", ascii_value(address))
    return f"<{text}>" if _QUOTED.fullmatch(text) else f"<{_SEPARATORS.sub('?', text)}>"


def line(text: str, most: int) -> str:
    """Text of a filter on one line of printable ASCII, unfolded (RFC 5322 section 2.2.3)."""
    unfolded = _FOLD.sub(" ", text[: 2 * most])
    return "".join(character if " " <= character <= "~" else "?" for character in unfolded[:most]).strip()


def field(name: object, text: object) -> tuple[str, str] | None:
    """A field that a filter wants, on one line of ASCII; None for what can be none.

    >>> field("X-Spam", "Yes,\\r\\n\\tscore"), field("X: Y", "z"), field("X-A", 5), field("X-B", "\\u00fc")
    (('X-Spam', 'Yes, score'), None, None, ('X-B', '=?utf-8?b?w7w=?='))
    """
    if not isinstance(name, str) or not isinstance(text, str) or not _NAME.fullmatch(name):
        return None
    unfolded = _FOLD.sub(" ", text[:MAX_FIELD_LENGTH])
    if not unfolded.isascii():
        # Words of RFC 2047; a lone surrogate, which JSON can name, is no character of theirs.
        printable = "".join(character if character.isprintable() else "?" for character in unfolded)
        return name, Header(printable, "utf-8").encode(linesep="")
    return name, line(unfolded, MAX_FIELD_LENGTH)


def is_name(name: object) -> bool:
    """Whether a field may have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
