"""The words of structured header fields (RFC 5322 section 3.2), and the ``name=value`` in them. Pure, in linear time.

    mx.example; dkim=pass (2048 bit) header.i="a;b"@c.example
    mx.example  ;  dkim  =  pass  header.i  =  "a;b"  @c.example

A token keeps its quotes, so that nobody takes a quoted ``@`` for one that ends a local part. A comment is a gap.

Promises: what strangers chose and others have quoted stays in its place; what is not closed is no field at all.

Does not do: control characters and white space beyond ASCII. Whoever calls has made them something else.

Bugs: a comment with a quotation mark in it is refused, though RFC 5322 allows that: filters that put a quoted local
part into a comment as it came let the sender end the comment.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Unreadable(ValueError):
    """Text without an end of what it begins, or in another order than its grammar has."""


class Token(NamedTuple):
    """A word, a quoted string as it came, or one special character."""

    text: str
    is_apart: bool
    """Whether white space or a comment stands before it."""


def _lexer(specials: str) -> re.Pattern[str]:
    """Nothing in it goes back: a quoted string without an end fails once, and then nothing more is read."""
    return re.compile(rf'[ \t]++|(?P<token>"(?:[^"\\]|\\.)*+"|[{specials}]|[^ \t"()\\{specials}]++)', re.DOTALL)


PARAMETERS = _lexer(";=")
ADDRESSES = _lexer("<>,")
_IN_COMMENT = re.compile(r'\\.|[()"]', re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)


def tokens_of(text: str, lexer: re.Pattern[str]) -> Iterator[Token]:
    """The tokens of a field without its comments; raises `Unreadable`."""
    at, is_apart = 0, True
    while at < len(text):
        if text[at] == "(":
            at, is_apart = _behind_comment(text, at), True
            continue
        found = lexer.match(text, at)
        if found is None:
            raise Unreadable
        at = found.end()
        if token := found["token"]:
            yield Token(token, is_apart)
        is_apart = not token


def _behind_comment(text: str, begin: int) -> int:
    """Comments hold comments: RFC 5322 section 3.2.2."""
    depth = 0
    for mark in _IN_COMMENT.finditer(text, begin):
        if mark[0] == '"':
            raise Unreadable
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    raise Unreadable


def segments_of(text: str) -> list[list[Token]]:
    """What stands between the semicolons of a field; raises `Unreadable`."""
    segments: list[list[Token]] = [[]]
    for token in tokens_of(text, PARAMETERS):
        if token.text == ";":
            segments.append([])
        else:
            segments[-1].append(token)
    return segments


def pairs_of(segment: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Name in lower case, and value as it came, of each ``name=value``; raises `Unreadable` for anything else.

    A value goes on until the next gap: a local part may have ``=`` in it (RFC 5322 section 3.2.3).
    """
    at = 0
    while at < len(segment):
        if at + 2 >= len(segment) or segment[at].text[0] in '"=' or segment[at + 1].text != "=":
            raise Unreadable
        end = at + 3
        while end < len(segment) and not segment[end].is_apart:
            end += 1
        yield segment[at].text.lower(), "".join(token.text for token in segment[at + 2 : end])
        at = end


def unquoted(value: str) -> str:
    r"""What a value says that is one quoted string; any other as it is.

    >>> unquoted(r'"a\"b"'), unquoted('"a@b"@c'), unquoted("a")
    ('a"b', '"a@b"@c', 'a')
    """
    return _PAIR.sub(r"\1", value[1:-1]) if _QUOTED.fullmatch(value) else value
