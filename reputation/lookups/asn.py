"""Whose network an address is in, out of one file that is held in memory (by pyasn).

The file is text, and one that pyasn and the tools around it read, too: lines of ``PREFIX<tab>NUMBER``, of which the
narrowest prefix decides. Lines that begin with ``;`` are comments. Ours go on with the countries, as comments::

    ; reputon networks
    ; prefixes-v4: 2
    192.0.2.0/24<tab>64500
    198.51.100.0/24<tab>64501
    ; countries: prefix, the two letters as one number, and as themselves
    ;192.0.2.0/23<tab>16709<tab>AE

so both are read by the same fast loader. The prefix that is told is the one with the number, or the country's where
no number is known. An IPv4 address on an IPv6 socket is an IPv4 address.

Costs, for the world of 2026 (730,000 prefixes with numbers, 250,000 with countries): 0.2 to 0.5 s to load, in which
nothing else in the process runs, because the loader does not let go of Python's lock, and 180 MB. An address that was
asked about lately takes about 1 us, another one 3 to 6.

Does not do: reading the file again when it changes. Start the process anew.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pyasn import pyasn  # type: ignore[import-untyped]  # it ships no types

from reputation.errors import ConfigError
from reputation.events import ClientAddress
from reputation.facts import Network
from reputation.lookups.names import unmapped

TITLE = "; reputon networks"
COUNTRIES = "; countries: prefix, the two letters as one number, and as themselves"
CACHED_CLIENTS = 4_096
HEAD_CHARACTERS = 65_536
"""How much of a file is looked at to say whether it is one."""
GZIP_MAGIC = b"\x1f\x8b"
_LINE = re.compile(r"[0-9A-Fa-f:.]{2,45}/\d{1,3}\t\d{1,10}(?:\s.*)?")


def country_number(code: str) -> int:
    """The two letters of a country as one number.

    >>> country_number("AE"), country_of(16_709)
    (16709, 'AE')
    """
    return ord(code[0]) << 8 | ord(code[1])


def country_of(number: int) -> str:
    """The inverse of `country_number`; empty for 0."""
    return chr(number >> 8 & 0xFF) + chr(number & 0xFF) if number else ""


class AsnTable:
    """A table in memory."""

    def __init__(self, numbers: pyasn, countries: pyasn | None) -> None:
        self._numbers = numbers
        self._countries = countries
        # Plain tuples, which the garbage collector passes over.
        self._found = lru_cache(maxsize=CACHED_CLIENTS)(self._find)

    @classmethod
    def load(cls, file: Path) -> "AsnTable":
        """Read a file, packed by gzip or not. Raises `ConfigError` that says which line is wrong."""
        text = text_of(file)
        numbers, _, countries = text.partition(f"\n{COUNTRIES}\n")
        return cls(_loaded(file, numbers), _loaded(file, countries.replace("\n;", "\n")[1:]) if countries else None)

    def network(self, client: ClientAddress) -> Network:
        """Whose network a client is in; empty where the table does not say."""
        asn, country, prefix = self._found(client)
        return Network(asn=asn, country=country, prefix=prefix)

    def _find(self, client: ClientAddress) -> tuple[int, str, str]:
        address = str(unmapped(client)).partition("%")[0]  # the zone of a link-local address is none of its own
        asn, prefix = self._numbers.lookup(address)
        number, wide = (None, None) if self._countries is None else self._countries.lookup(address)
        return asn or 0, country_of(number or 0), prefix or wide or ""


def check_table(file: Path) -> None:
    """Raises `ConfigError` for a file that is no table, as far as its beginning says. Does not read all of it."""
    text = text_of(file, HEAD_CHARACTERS)
    _check_lines(file, text if len(text) < HEAD_CHARACTERS else text.rpartition("\n")[0])


def text_of(file: Path, characters: int = -1) -> str:
    """What is in a table's file, or its beginning. Raises `ConfigError`."""
    try:
        with file.open("rb") as stream:
            is_packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        # Whatever stands in comments; of what counts everything is ASCII.
        with gzip.open(file, "rt", encoding="latin-1") if is_packed else file.open(encoding="latin-1") as text:
            return text.read(characters)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # a NUL in its name; damaged
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"asn_table: {file} cannot be read: {reason}") from None


def prefix_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a table that are about a number, with their own numbers."""
    for position, line in enumerate(text.split("\n"), 1):
        if line and not line.startswith((";", "#")):
            yield position, line


def _loaded(file: Path, text: str) -> pyasn:
    try:
        table = pyasn(None, ipasn_string=text or ";")
    except (RuntimeError, ValueError) as error:
        _check_lines(file, text)
        raise ConfigError(f"asn_table: {file}: {error}") from None
    if next(iter(table), None) is None:
        _check_lines(file, text)
    return table


def _check_lines(file: Path, text: str) -> None:
    position = 0
    for position, line in prefix_lines(text):
        if not _LINE.fullmatch(line):
            raise ConfigError(
                f'asn_table: {file}:{position}: "{line[:60]}" is no network with its number: '
                "make the table with `reputon asn build`"
            )
    if not position:
        raise ConfigError(f"asn_table: {file} has no network in it: make it with `reputon asn build`")
