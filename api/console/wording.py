"""How values are written for people: harmless, readable, and the same on every page. Pure functions.

Text may hold whatever a stranger sent. Everything that a template puts out goes through `plainly` (see
`api.console.showing`), and what is shown as a value through `visible`: what nobody would see, or what would change how
its surroundings look, is written as a symbol or by its number. Direction is kept inside a value by ``<bdi>``.

>>> plainly("a\\x00b\\u202ec\\udcff")
'a[NUL]b[U+202E]c[\\\\xFF]'
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from markupsafe import Markup, escape

MAX_IN_CELL = 120
"""Characters of a value where it is one of many; its own page shows all."""
MAX_MARKS = 2
"""Combining marks on one letter: more would be drawn over the lines around."""
_CONTROLS = (
    *("NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI"),
    *("DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"),
)
"""ASCII's own names: not every font has pictures of them."""
_DELETE = 0x7F
_ESCAPED_OCTETS = range(0xDC80, 0xDD00)
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def plainly(text: str) -> str:
    """The text with everything visible, as text: for attributes, titles, and wherever a template forgot to think."""
    return text if _SUSPECT.search(text) is None else _with_odd(text, _told)


def visible(text: str) -> Markup:
    """The text as HTML, isolated from what is around it; what is odd in it is marked.

    >>> str(visible("<b>\\n"))
    '<bdi>&lt;b&gt;<span class="odd" title="U+000A">LF</span></bdi>'
    """
    if _SUSPECT.search(text) is None:
        return Markup("<bdi>{}</bdi>").format(text)
    return Markup("<bdi>{}</bdi>").format(Markup(_with_odd(text, _marked, escape)))  # noqa: S704 - each part is escaped


def cut(text: str, most: int = MAX_IN_CELL) -> str:
    """Its beginning and its end, where it is longer than `most` characters.

    >>> cut("a" * 300, 20)
    'aaaaaaaaaaaa … aaaaaaa (300 characters)'
    """
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 5]} … {text[-(most * 2 // 5 - 1) :]} ({len(text):,} characters)"


def _with_odd(text: str, told: Callable[[str, str], str], rest: Callable[[str], str] = str) -> str:
    pieces, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        is_plain = character.isprintable() and marks <= MAX_MARKS
        pieces.append(rest(character) if is_plain else told(character, _symbol(character)))
    return "".join(pieces)


def _symbol(character: str) -> str:
    number = ord(character)
    if number < len(_CONTROLS):
        return _CONTROLS[number]
    if number == _DELETE:
        return "DEL"
    if number in _ESCAPED_OCTETS:
        return f"\\x{number - 0xDC00:02X}"
    return f"U+{number:04X}"


def _told(_: str, symbol: str) -> str:
    return f"[{symbol}]"


def _marked(character: str, symbol: str) -> str:
    name = unicodedata.name(character, "")
    return Markup('<span class="odd" title="{}">{}</span>').format(f"U+{ord(character):04X} {name}".strip(), symbol)


# Places


def quoted(text: str) -> str:
    """A text as a part of a URL, whatever is in it.

    >>> quoted("a/b&c\\udcff")
    'a%2Fb%26c%FF'
    """
    try:
        return quote(text, safe="@:", errors="surrogateescape")
    except UnicodeEncodeError:  # a surrogate that is no escaped octet
        return quote(text, safe="@:", errors="replace")


def place(path: str, **asked: str | int | float | None) -> str:
    """A page of the console, with what is asked of it; what is empty is left out.

    >>> place("entity", of="helo:a b", window="")
    '/console/entity?of=helo:a%20b'
    """
    query = "&".join(f"{name}={quoted(str(value))}" for name, value in asked.items() if value not in ("", None))
    return f"/console/{path}?{query}" if query else f"/console/{path}"


def dimension_of(entity: str) -> str:
    """What kind of thing an entity is."""
    return entity.partition(":")[0]


def value_of(entity: str) -> str:
    """Which one it is."""
    return entity.partition(":")[2]


# Numbers and times


def number(value: float) -> str:
    """With separators, and no more digits than say something.

    >>> number(12345), number(3.14159), number(0.04), number(250.4), number(0)
    ('12,345', '3.1', '0.04', '250', '0')
    """
    if value == int(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


_STEPS = ((86_400 * 2, 86_400, "d"), (3_600 * 2, 3_600, "h"), (60 * 2, 60, "min"))


def lasting(seconds: float) -> str:
    """A length of time.

    >>> lasting(45), lasting(300), lasting(7_200), lasting(200_000), lasting(0.2)
    ('45 s', '5 min', '2 h', '2 d', '1 s')
    """
    for least, unit, name in _STEPS:
        if seconds >= least:
            return f"{int(seconds // unit)} {name}"
    return f"{max(1, round(seconds))} s"


def relative(at: float, now: float) -> str:
    """A time as seen from now.

    >>> relative(100, 100), relative(40, 100), relative(7300, 100)
    ('now', '60 s ago', 'in 2 h')
    """
    if abs(now - at) < 1:
        return "now"
    return f"{lasting(now - at)} ago" if at < now else f"in {lasting(at - now)}"


def moment(at: float) -> str:
    """A time of the day and the year, UTC.

    >>> moment(1e9)
    '2001-09-09 01:46:40'
    """
    return _utc(at).strftime("%Y-%m-%d %H:%M:%S")


def machine_time(at: float) -> str:
    """As the `datetime` attribute has it."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_time(at: float) -> str:
    """Hours and minutes, UTC."""
    return _utc(at).strftime("%H:%M")


LATEST = 253_402_300_799.0
"""The end of the year 9999."""


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), LATEST), UTC)


def octets(count: float) -> str:
    """A size.

    >>> octets(900), octets(2_500), octets(3_000_000)
    ('900 B', '2.5 kB', '3 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count:,.0f} B"


# Words

ACTIONS = {
    "accept": "passes",
    "tag": "passes, tagged",
    "tarpit": "passes, slowly",
    "throttle": "is held back",
    "tempfail": "is put off",
    "discard": "is thrown away",
    "reject": "is refused",
}
"""What becomes of an event."""

REASONS = {
    "no-rule": "no rule applies to it",
    "within-limits": "all rules that apply have room",
    "over-limit": "a rule has no room left",
    "matched": "a rule's condition is met",
    "store-unavailable": "the store does not answer, so rules act as their on_store_failure says",
    "banned": "it is banned",
    "blocklisted": "it is on the list block",
    "allowlisted": "it is on the list allow, and meets no rule",
}
"""Why, in a sentence."""


def why(reason: str, rule: str = "", entry: str = "") -> str:
    """The reason of a verdict in words; a reason that is not known here is shown as it is."""
    words = REASONS.get(reason, reason)
    if rule:
        return f"{words}: {rule}"
    return f"{words}: {entry}" if entry else words
