"""The table of networks: what it says, and what is no table."""

import gzip
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyasn import pyasn  # type: ignore[import-untyped]  # it ships no types

from reputation.errors import ConfigError
from reputation.facts import Network
from reputation.lookups.asn import COUNTRIES, AsnTable, check_table

TABLE = f"""; reputon networks
# another comment
192.0.2.0/24\t64500
192.0.0.0/16\t64501
198.51.100.0/24\t4200000000
2001:db8::/32\t64502
2001:db8:1::/48\t64503
{COUNTRIES}
;192.0.2.0/25\t16709\tAE
;203.0.113.0/24\t17477\tDE
;2001:db8::/33\t17477\tDE
"""


@pytest.fixture(params=["plain", "packed"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "asn.dat"
    file.write_bytes(TABLE.encode() if request.param == "plain" else gzip.compress(TABLE.encode()))
    return file


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", Network(asn=64_500, country="AE", prefix="192.0.2.0/24")),
        ("192.0.2.200", Network(asn=64_500, prefix="192.0.2.0/24")),
        ("192.0.3.1", Network(asn=64_501, prefix="192.0.0.0/16")),
        ("198.51.100.1", Network(asn=4_200_000_000, prefix="198.51.100.0/24")),
        ("203.0.113.1", Network(country="DE", prefix="203.0.113.0/24")),
        ("198.51.101.1", Network()),
        ("2001:db8::1", Network(asn=64_502, country="DE", prefix="2001:db8::/32")),
        ("2001:db8:1::1", Network(asn=64_503, country="DE", prefix="2001:db8:1::/48")),
        ("2001:db8:8000::1", Network(asn=64_502, prefix="2001:db8::/32")),
        ("::ffff:192.0.2.7", Network(asn=64_500, country="AE", prefix="192.0.2.0/24")),
        ("fe80::1%eth0", Network()),
        ("::", Network()),
        ("255.255.255.255", Network()),
    ],
)
def test_networks(file: Path, client: str, network: Network) -> None:
    check_table(file)
    table = AsnTable.load(file)
    assert [table.network(ip_address(client)) for _ in range(2)] == [network] * 2


def test_a_table_of_pyasn_is_one_of_ours_and_the_other_way_round(tmp_path: Path) -> None:
    file = tmp_path / "asn.dat"
    file.write_text(TABLE)
    assert pyasn(str(file)).lookup("192.0.2.7") == (64_500, "192.0.2.0/24")
    file.write_text("; IP-ASN32-DAT file\n; Original source: M\u00fcller\n192.0.2.0/24\t64500\n", encoding="latin-1")
    assert AsnTable.load(file).network(ip_address("192.0.2.7")) == Network(asn=64_500, prefix="192.0.2.0/24")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no network in it"),
        ("; nothing\n", "no network in it"),
        ("192.0.2.0/24\t64500\nnonsense\n", r"asn\.dat:2: \"nonsense\""),
        ("192.0.2.0/24 64500\n", r"asn\.dat:1"),
        ("192.0.2.0/24,64500\n", r"asn\.dat:1"),
        ("192.0.2.0/24\tAS64500\n", r"asn\.dat:1"),
        ("\0\1\2\3", r"asn\.dat:1"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "asn.dat"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        check_table(file)
    with pytest.raises(ConfigError, match=said):
        AsnTable.load(file)


def test_what_only_looks_like_a_table_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "asn.dat"
    file.write_text("192.0.2.0/24\t64500\n192.0.2.0/99\t64500\n")
    with pytest.raises(ConfigError, match=r"asn\.dat.*record: 2"):
        AsnTable.load(file)


def test_a_file_that_is_not_there_or_cut_off(tmp_path: Path) -> None:
    for file, octets in ((tmp_path / "none", None), (tmp_path / "cut.gz", gzip.compress(b"x" * 9_999)[:20])):
        if octets is not None:
            file.write_bytes(octets)
        for read in (check_table, AsnTable.load):
            with pytest.raises(ConfigError, match="cannot be read"):
                read(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        check_table(tmp_path)


def test_only_the_head_of_a_large_table_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "asn.dat"
    file.write_text("192.0.2.0/24\t64500\n" * 10_000 + "nonsense\n")
    check_table(file)
    with pytest.raises(ConfigError, match=r"asn\.dat:10001"):
        AsnTable.load(file)
