"""Makes the table of `reputation.lookups.asn` out of files (`reputation.lookups.asn_sources`).

What is said about the same prefix twice, the last file decides, and in it the last line; of prefixes one in another the
narrowest decides, as in routing. Numbers and countries are apart: a file with countries changes no number.

The file is written beside its place and moved there when it is whole, so that nobody ever reads a half. A table that is
empty, or has less than half of the prefixes of the one it would replace, is not written: some source was cut off.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from reputation.errors import ConfigError
from reputation.lookups.asn import COUNTRIES, TITLE, country_number, prefix_lines, text_of
from reputation.lookups.asn_sources import networks_in

LEAST_SHARE = 0.5
"""Of the prefixes of the table that is replaced."""
LENGTH_BITS = 8
MAX_NAMES_LENGTH = 150
"""pyasn reads no line that is much longer."""

Prefixes = dict[int, int]
"""Network and length in one number -> what is known about it. Two numbers: there are a million of them."""


class Built(NamedTuple):
    """What a table has."""

    prefixes_v4: int
    prefixes_v6: int
    """With numbers."""
    asns: int
    countries: int
    """Different ones of both."""


class Gathered:
    """What files have said so far."""

    def __init__(self) -> None:
        self.asns: dict[int, Prefixes] = {4: {}, 6: {}}
        self.countries: dict[int, Prefixes] = {4: {}, 6: {}}

    def read(self, file: Path, on_progress: Callable[[int], None]) -> None:
        """Take in a file. Raises `ConfigError`."""
        nothing = True
        for version, network, length, asn, country in networks_in(file, on_progress):
            key = network << LENGTH_BITS | length
            if asn:
                self.asns[version][key] = asn
            if country:
                self.countries[version][key] = country_number(country)
            nothing = nothing and not (asn or country)
        if nothing:
            raise ConfigError(f"{file}: says nothing about any network")

    def built(self) -> Built:
        """Its numbers."""
        asns = {*self.asns[4].values(), *self.asns[6].values()}
        countries = {*self.countries[4].values(), *self.countries[6].values()}
        return Built(len(self.asns[4]), len(self.asns[6]), len(asns), len(countries))

    def lines(self, sources: Sequence[Path]) -> Iterator[str]:
        """The file, line by line."""
        built = self.built()
        yield TITLE
        names = " ".join(ascii(file.name)[1:-1] for file in sources)
        yield f"; made {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC from {names[:MAX_NAMES_LENGTH]}"
        yield f"; prefixes-v4: {built.prefixes_v4}"
        yield f"; prefixes-v6: {built.prefixes_v6}"
        for prefix, asn in _spelled(self.asns):
            yield f"{prefix}\t{asn}"
        if built.countries:
            yield COUNTRIES
            for prefix, number in _spelled(self.countries):
                yield f";{prefix}\t{number}\t{chr(number >> 8)}{chr(number & 0xFF)}"


def build(
    sources: Sequence[Path], out: Path, *, even_if_smaller: bool, on_progress: Callable[[Path, int], None]
) -> Built:
    """Make the table `out` of files. Raises `ConfigError`, and then nothing is written."""
    gathered = Gathered()
    for file in sources:
        gathered.read(file, lambda octets, file=file: on_progress(file, octets))  # type: ignore[misc] # the default binds the loop's file
    built = gathered.built()
    prefixes = built.prefixes_v4 + built.prefixes_v6
    if not prefixes:
        raise ConfigError(f"no source has numbers of networks, only countries: {out} is not written")
    if not even_if_smaller and (there := _prefixes_in(out)) * LEAST_SHARE > prefixes:
        raise ConfigError(
            f"{out} has {there} prefixes and would have {prefixes}: is a source cut off? --force writes it all the same"
        )
    _write(out, gathered.lines(sources))
    return built


def _prefixes_in(file: Path) -> int:
    """How many prefixes the table has that would be replaced; 0 for none, or none that can be read."""
    try:
        return sum(1 for _ in prefix_lines(text_of(file)))
    except ConfigError:
        return 0


def _spelled(prefixes: dict[int, Prefixes]) -> Iterator[tuple[str, int]]:
    """In order of the addresses, wide ones first."""
    for version, address in ((4, IPv4Address), (6, IPv6Address)):
        for key, value in sorted(prefixes[version].items()):
            yield f"{address(key >> LENGTH_BITS)}/{key & (1 << LENGTH_BITS) - 1}", value


def _write(out: Path, lines: Iterable[str]) -> None:
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="ascii") as stream:
            stream.writelines(f"{line}\n" for line in lines)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            beside.unlink()
