"""`reputon asn build`: every kind of source, what is refused, and that nobody ever reads a half."""

import bz2
import gzip
import os
import re
import struct
from ipaddress import IPv4Address, ip_address, ip_network, summarize_address_range
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn import mrtx  # type: ignore[import-untyped]  # it ships no types
from typer.testing import CliRunner

from reputation.cli.app import app
from reputation.errors import ConfigError
from reputation.facts import Network
from reputation.lookups.asn import AsnTable
from reputation.lookups.asn_build import Built, build
from reputation.lookups.asn_sources import Range, prefixes_of
from reputation.lookups.location_db import HEADER, MAGIC, NONE, V4
from reputation.lookups.mrt import RIB_IPV4_UNICAST, RIB_IPV4_UNICAST_ADDPATH, RIB_IPV6_UNICAST, TABLE_DUMP_V2

CSV = """192.0.2.0,192.0.2.255,64500,"One, Inc."
198.51.100.0,198.51.100.5,64501,Two
2001:db8::,2001:db8::ffff,64502,Three
"""


def built(tmp_path: Path, *sources: str | bytes, force: bool = False) -> Built:
    """A table at asn.dat, out of sources with these contents."""
    files = [tmp_path / f"source-{number}" for number in range(len(sources))]
    for file, content in zip(files, sources, strict=True):
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return build(files, tmp_path / "asn.dat", even_if_smaller=force, on_progress=lambda file, octets: None)


def networks(tmp_path: Path, *clients: str) -> list[tuple[int, str, str]]:
    table = AsnTable.load(tmp_path / "asn.dat")
    found = [table.network(ip_address(client)) for client in clients]
    return [(network.asn, network.country, network.prefix) for network in found]


# Ranges


def test_ranges_with_numbers(tmp_path: Path) -> None:
    assert built(tmp_path, CSV) == Built(prefixes_v4=3, prefixes_v6=1, asns=3, countries=0)
    assert networks(tmp_path, "192.0.2.7", "198.51.100.4", "198.51.100.6", "2001:db8::1") == [
        (64_500, "", "192.0.2.0/24"),
        (64_501, "", "198.51.100.4/31"),
        (0, "", ""),
        (64_502, "", "2001:db8::/112"),
    ]


def test_ranges_with_countries_in_a_file_of_their_own(tmp_path: Path) -> None:
    countries = "192.0.2.0,192.0.2.127,AE\n203.0.113.0,203.0.113.255,DE\n2001:db8::,2001:db8::ff,AE\n"
    assert built(tmp_path, CSV, countries) == Built(prefixes_v4=3, prefixes_v6=1, asns=3, countries=2)
    assert networks(tmp_path, "192.0.2.7", "192.0.2.200", "203.0.113.1", "2001:db8::1") == [
        (64_500, "AE", "192.0.2.0/24"),
        (64_500, "", "192.0.2.0/24"),
        (0, "DE", "203.0.113.0/24"),
        (64_502, "AE", "2001:db8::/112"),
    ]


def test_addresses_as_numbers(tmp_path: Path) -> None:
    first, last = int(ip_address("2001:db8::")), int(ip_address("2001:db8::ffff"))
    built(tmp_path, f"3221225984,3221226239,64500,One\n{first},{last},64502,Three\n")
    assert [network[0] for network in networks(tmp_path, "192.0.2.7", "2001:db8::1")] == [64_500, 64_502]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_sources(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    assert built(tmp_path, pack(CSV.encode())).asns == 3


def test_headings_blank_lines_and_unknown_numbers_are_passed_over(tmp_path: Path) -> None:
    lines = "start,end,asn,name\r\n\r\n192.0.2.0,192.0.2.255,AS64500,One\r\n198.51.100.0,198.51.100.255,0,Nobody\r\n"
    assert built(tmp_path, lines) == Built(prefixes_v4=1, prefixes_v6=0, asns=1, countries=0)


def test_of_what_is_said_twice_the_last_and_the_narrowest_count(tmp_path: Path) -> None:
    built(
        tmp_path,
        "192.0.2.0,192.0.2.255,1,A\n192.0.2.0,192.0.2.255,2,B\n192.0.2.0,192.0.2.3,3,C\n198.51.100.0,198.51.100.255,4,D\n",
        "198.51.100.0,198.51.100.255,5,E\n0.0.0.0,255.255.255.255,6,F\n",
    )
    clients = ("192.0.2.7", "192.0.2.1", "198.51.100.1", "203.0.113.1")
    assert [network[0] for network in networks(tmp_path, *clients)] == [2, 3, 5, 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("192.0.2.0,192.0.2.255,1,A\n192.0.2.0,192.0.2.x,1,A\n", r"source-0:2: "),
        ("192.0.2.0,192.0.2.255\n", r"source-0:1: less than three columns"),
        ("192.0.2.9,192.0.2.1,1,A\n", r"source-0:1: 192\.0\.2\.9 to 192\.0\.2\.1 is no range"),
        ("192.0.2.0,2001:db8::,1,A\n", r"source-0:1: .* is no range"),
        ("192.0.2.0,192.0.2.255,Germany\n", r'source-0:1: "Germany" is no number'),
        ("192.0.2.0,192.0.2.255,4294967296\n", r"source-0:1: "),
        (f"0,{2**128},1\n", r"source-0:1: .* is no address"),
        ('192.0.2.0,192.0.2.255,1,A\n"open', r"source-0"),
        ("192.0.2.0/24\t64500\n192.0.2.0/24 64500\n", r"source-0:2: "),
        ("; comment\n;192.0.2.0/24\t1\n", r"source-0:2: "),
        ("", r"source-0: says nothing"),
        ("; nothing\n", r"source-0: says nothing"),
        (gzip.compress(CSV.encode())[:40], r"source-0: cannot be read"),
        (bz2.compress(CSV.encode())[:40], r"source-0: cannot be read"),
        (b"\x1f\x8bnonsense", r"source-0: cannot be read"),
        (b"BZhnonsense", r"source-0: cannot be read"),
        (b"\xff\xfe\0\0" * 30, r"source-0"),
        ("192.0.2.0,192.0.2.255,DE\n", r"only countries"),
    ],
)
def test_what_cannot_be_read_says_where_and_nothing_is_written(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(tmp_path, content)
    assert [file.name for file in tmp_path.iterdir()] == ["source-0"]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_prefixes_of_a_range(one: int, other: int) -> None:
    first, last = min(one, other), max(one, other)
    expected = [
        (int(network.network_address), network.prefixlen)
        for network in summarize_address_range(IPv4Address(first), IPv4Address(last))
    ]
    assert list(prefixes_of(Range(4, first, last, 1, ""))) == expected


# Tables and trees


def test_a_table_as_source_keeps_its_numbers_and_countries(tmp_path: Path) -> None:
    built(tmp_path, CSV, "192.0.2.0,192.0.2.127,AE\n")
    table = (tmp_path / "asn.dat").read_text()
    assert built(tmp_path, table) == Built(prefixes_v4=3, prefixes_v6=1, asns=3, countries=1)
    assert re.sub("; made.*", "", (tmp_path / "asn.dat").read_text()) == re.sub("; made.*", "", table)


def location_db(*places: tuple[int, int, str, int]) -> bytes:
    """A tree with these (address, length, country, number)."""
    nodes: list[list[int]] = [[0, 0, NONE]]
    for index, (address, length, _, _) in enumerate(places):
        node = 0
        for bit in range(127, 127 - length, -1):
            side = address >> bit & 1
            if not nodes[node][side]:
                nodes[node][side] = len(nodes)
                nodes.append([0, 0, NONE])
            node = nodes[node][side]
        nodes[node][2] = index
    tree = b"".join(struct.pack(">3I", *node) for node in nodes)
    table = b"".join(struct.pack(">2s2xI4x", country.encode(), asn) for _, _, country, asn in places)
    begin = len(MAGIC) + HEADER.size
    offsets = (0, 0, begin, len(table), begin + len(table), len(tree), 0, 0, 0, 0)
    return MAGIC + HEADER.pack(0, 0, 0, 0, *offsets) + table + tree


LOCATIONS = location_db(
    (V4 | int(ip_address("192.0.2.0")), 120, "AE", 64_500),
    (V4 | int(ip_address("198.51.100.0")), 120, "\0\0", 64_501),
    (int(ip_address("2001:db8::")), 32, "DE", 0),
    (int(ip_address("2001:db8:1::")), 48, "DE", 64_502),
)


def test_a_tree_as_source(tmp_path: Path) -> None:
    assert built(tmp_path, LOCATIONS) == Built(prefixes_v4=2, prefixes_v6=1, asns=3, countries=2)
    assert networks(tmp_path, "192.0.2.7", "198.51.100.1", "2001:db8::1", "2001:db8:1::1") == [
        (64_500, "AE", "192.0.2.0/24"),
        (64_501, "", "198.51.100.0/24"),
        (0, "DE", "2001:db8::/32"),
        (64_502, "DE", "2001:db8:1::/48"),
    ]


@pytest.mark.parametrize("length", [len(MAGIC), 40, len(LOCATIONS) - 5])
def test_a_tree_that_is_cut_off(tmp_path: Path, length: int) -> None:
    with pytest.raises(ConfigError, match="is cut off"):
        built(tmp_path, LOCATIONS[:length])


def test_a_tree_that_goes_in_a_circle(tmp_path: Path) -> None:
    octets = bytearray(location_db((0, 2, "DE", 1)))
    octets[-12:-8] = struct.pack(">I", 1)  # the last node goes back to the second
    with pytest.raises(ConfigError, match="is no tree"):
        built(tmp_path, bytes(octets))


# What routers have seen


def segment(*numbers: int, kind: int = 2) -> bytes:
    """A part of a path: 2 a sequence, 1 a set (RFC 4271 section 4.3)."""
    return struct.pack(f">BB{len(numbers)}I", kind, len(numbers), *numbers)


def entry(*segments: bytes, path_id: int | None = None, is_extended: bool = False) -> bytes:
    """What one peer has seen (RFC 6396 section 4.3.4), with an ORIGIN before its path."""
    path = b"".join(segments)
    length = struct.pack(">BBH", 0x50, 2, len(path)) if is_extended else struct.pack(">BBB", 0x40, 2, len(path))
    attributes = b"\x40\x01\x01\x00" + length + path
    return (
        struct.pack(">HI", 0, 0)
        + (b"" if path_id is None else struct.pack(">I", path_id))
        + struct.pack(">H", len(attributes))
        + attributes
    )


def record(prefix: str, *entries: bytes, subtype: int = 0) -> bytes:
    """The routes to one prefix (RFC 6396 section 4.3.2)."""
    network = ip_network(prefix)
    octets = network.network_address.packed[: (network.prefixlen + 7) // 8]
    body = struct.pack(">IB", 0, network.prefixlen) + octets + struct.pack(">H", len(entries)) + b"".join(entries)
    return mrt(subtype or (RIB_IPV4_UNICAST if network.version == 4 else RIB_IPV6_UNICAST), body)


def mrt(subtype: int, body: bytes, kind: int = TABLE_DUMP_V2) -> bytes:
    return struct.pack(">IHHI", 0, kind, subtype, len(body)) + body


PEERS = mrt(1, struct.pack(">IHH", 1, 0, 0))
DUMP = PEERS + b"".join(
    (
        record("192.0.2.0/24", entry(segment(3_356, 1_299, 13_335)), entry(segment(1_299, 15_169))),
        record("198.51.0.0/17", entry(segment(3_356, 13_335), is_extended=True)),
        record("203.0.113.0/24", entry(segment(3_356), segment(15_169, 13_335, kind=1))),
        record("0.0.0.0/0", entry(segment(3_356))),
        record("2001:db8::/32", entry(segment(3_356, 396_982))),
    )
)
PRIVATE = b"".join(
    (
        record("100.64.1.0/24", entry(segment(3_356, 13_335, 64_512, 64_512))),
        record("100.64.2.0/24", entry(segment(64_512)), entry(segment(1_299, 13_335))),
        record("100.64.3.0/24", entry(segment(64_512))),
        record("100.64.4.0/24", entry()),
        record("100.64.5.0/24", entry(segment(1_299, 13_335), segment(64_512, kind=3))),
        record("100.64.6.0/24"),
    )
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_dump_as_source(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    assert built(tmp_path, pack(DUMP)) == Built(prefixes_v4=3, prefixes_v6=1, asns=2, countries=0)
    assert networks(tmp_path, "192.0.2.7", "198.51.1.1", "203.0.113.1", "2001:db8::1", "8.8.8.8") == [
        (13_335, "", "192.0.2.0/24"),
        (13_335, "", "198.51.0.0/17"),
        (13_335, "", "203.0.113.0/24"),
        (396_982, "", "2001:db8::/32"),
        (0, "", ""),
    ]


def test_pyasn_reads_the_same_out_of_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "dump.gz"
    file.write_bytes(gzip.compress(DUMP))
    theirs = {
        prefix: origin if isinstance(origin, int) else min(origin)
        for prefix, origin in mrtx.parse_mrt_file(str(file)).items()
    }
    built(tmp_path, DUMP)
    ours = [line.split("\t") for line in (tmp_path / "asn.dat").read_text().splitlines() if line[0] != ";"]
    assert {prefix: int(asn) for prefix, asn in ours} == theirs


def test_private_numbers_are_nobodys_origin(tmp_path: Path) -> None:
    built(tmp_path, DUMP + PRIVATE)
    clients = [f"100.64.{number}.1" for number in range(1, 7)]
    assert [network[0] for network in networks(tmp_path, *clients)] == [13_335, 13_335, 0, 0, 13_335, 0]


def test_dumps_with_several_paths_a_peer(tmp_path: Path) -> None:
    several = (entry(segment(64_512), path_id=1), entry(segment(3_356, 13_335), path_id=2))
    built(tmp_path, PEERS + record("192.0.2.0/24", *several, subtype=RIB_IPV4_UNICAST_ADDPATH))
    assert networks(tmp_path, "192.0.2.7") == [(13_335, "", "192.0.2.0/24")]


def test_other_records_are_passed_over(tmp_path: Path) -> None:
    multicast, update = mrt(3, b"whatever"), mrt(4, b"whatever", kind=16)
    built(tmp_path, PEERS + multicast + update + DUMP)
    assert networks(tmp_path, "192.0.2.7") == [(13_335, "", "192.0.2.0/24")]


DAMAGED = [
    DUMP[:-1],
    DUMP + b"\0",
    DUMP + mrt(RIB_IPV4_UNICAST, b"\0\0\0\0\x21\xc0\x00\x02\x00\x00\0\0"),
    DUMP + mrt(RIB_IPV4_UNICAST, b"\0\0\0\0\x18\xc0\x00\x02\0\x01"),
    DUMP + struct.pack(">IHHI", 0, TABLE_DUMP_V2, RIB_IPV4_UNICAST, 2**31),
]


@pytest.mark.parametrize("dump", DAMAGED)
def test_a_damaged_dump_says_where(tmp_path: Path, dump: bytes) -> None:
    with pytest.raises(ConfigError, match=r"source-0: octet [1-9]\d+: "):
        built(tmp_path, dump)


# Writing


def test_a_table_that_has_shrunk_is_not_written(tmp_path: Path) -> None:
    many = "".join(f"10.0.{number}.0,10.0.{number}.255,{number + 1},X\n" for number in range(10))
    built(tmp_path, many)
    before = (tmp_path / "asn.dat").read_text()
    fewer = "".join(many.splitlines(keepends=True)[:4])
    with pytest.raises(ConfigError, match=r"has 10 prefixes and would have 4.*--force"):
        built(tmp_path, fewer)
    assert (tmp_path / "asn.dat").read_text() == before
    assert built(tmp_path, fewer, force=True).asns == 4
    assert built(tmp_path, fewer[: len(fewer) // 2]).asns == 2


def test_what_is_no_table_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "asn.dat").write_bytes(b"\x1f\x8bnonsense")
    assert built(tmp_path, CSV).asns == 3


def test_nobody_reads_a_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path, CSV)
    before = (tmp_path / "asn.dat").read_text()

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        built(tmp_path, CSV, CSV)
    assert (tmp_path / "asn.dat").read_text() == before
    assert {file.name for file in tmp_path.iterdir()} == {"asn.dat", "source-0", "source-1"}


def test_a_name_of_a_file_cannot_break_the_table(tmp_path: Path) -> None:
    source = tmp_path / "a\nb\u00fc.csv"
    source.write_text(CSV)
    build([source], tmp_path / "asn.dat", even_if_smaller=False, on_progress=lambda file, octets: None)
    assert networks(tmp_path, "192.0.2.7") == [(64_500, "", "192.0.2.0/24")]


# The command


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text(CSV)
    (tmp_path / "countries.csv").write_text("192.0.2.0,192.0.2.127,AE\n")
    out = tmp_path / "asn.dat"
    arguments = ["asn", "build", str(tmp_path / "numbers.csv"), str(tmp_path / "countries.csv"), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert f"{out}: 3 IPv4 and 1 IPv6 prefixes of 3 autonomous systems, 1 countries\n" == result.stdout
    assert "numbers.csv" in result.stderr and "100%" in result.stderr
    assert AsnTable.load(out).network(ip_address("192.0.2.7")) == Network(
        asn=64_500, country="AE", prefix="192.0.2.0/24"
    )


@pytest.mark.parametrize("name", ["none.csv", "bad.csv"])
def test_the_command_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.csv").write_text("192.0.2.0,192.0.2.255,1\nbad,bad,bad\n")
    result = CliRunner().invoke(app, ["asn", "build", str(tmp_path / name), "--out", str(tmp_path / "asn.dat")])
    assert isinstance(result.exception, ConfigError)
    assert str(tmp_path / name) in str(result.exception)
    assert not (tmp_path / "asn.dat").exists()


def test_the_command_asks_for_sources() -> None:
    assert CliRunner().invoke(app, ["asn", "build", "--out", "asn.dat"]).exit_code == 2
