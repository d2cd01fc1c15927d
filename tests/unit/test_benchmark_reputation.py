"""The figures of `benchmarks.reputation` against their definitions, and the files that it reads."""

import gzip
import struct
from ipaddress import IPv4Address
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import networks
from benchmarks.reputation import MODELS, Mail, Scored, auc, caught, mails_of, scored
from reputation.keys import Entity

some_scored = st.lists(st.builds(Scored, st.integers(0, 8).map(float), st.booleans()), min_size=2, max_size=60).filter(
    lambda some: {one.bad for one in some} == {True, False}
)


def scores(some: list[Scored], *, bad: bool) -> list[float]:
    return [one.score for one in some if one.bad is bad]


@given(some_scored)
def test_auc_is_the_share_of_pairs_in_order(some: list[Scored]) -> None:
    pairs = list(product(scores(some, bad=True), scores(some, bad=False)))
    in_order = sum(1.0 if bad > good else 0.5 if bad == good else 0.0 for bad, good in pairs)
    assert auc(some) == pytest.approx(in_order / len(pairs))


@given(some_scored, st.sampled_from([0.0, 0.003, 0.1, 0.5, 1.0]))
def test_caught_is_the_best_threshold(some: list[Scored], allowed: float) -> None:
    bad, good = scores(some, bad=True), scores(some, bad=False)
    shares = [
        sum(score >= threshold for score in bad) / len(bad)
        for threshold in {one.score for one in some}
        if sum(score >= threshold for score in good) <= allowed * len(good)
    ]
    assert caught(some, allowed) == pytest.approx(max(shares, default=0.0))


def test_a_mail_is_scored_before_it_is_learned() -> None:
    subject = (Entity("subject", "0f"),)
    for score in scored([Mail(0.0, True, subject), Mail(60.0, False, subject)], MODELS).values():
        assert score[0].score == pytest.approx(0.5)
    second = scored([Mail(0.0, True, subject), Mail(60.0, False, subject)], MODELS)[""][1]
    assert second.score > 0.8


def test_evidence_is_forgotten_as_in_the_store() -> None:
    subject, day = (Entity("subject", "0f"),), 86_400.0
    for days, known in ((29, True), (31, False)):
        last = scored([Mail(0.0, False, ()), Mail(0.0, True, subject), Mail(days * day, True, subject)], MODELS)
        base = last["_raw_ratio"][-1].score  # what is said without an address
        assert (last[""][-1].score > base + 0.01) is known


HEADING = "ts,ip,helo,envelope_domain,from_domain,is_list,subject,group,label_spam"


def test_a_file_is_read_in_order_of_time_and_without_its_groups(tmp_path: Path) -> None:
    rows = [
        "200,192.0.2.7,h,Mail.Example.co.uk,example.com,1,Re: hello,GROUP,0",
        "100,2001:db8::1,h,,,0,,GROUP,1",
        "300,,h,,,0,,GROUP,0",
    ]
    found = {}
    for group in ("easy", "spam"):
        file = tmp_path / f"{group}.csv.gz"
        file.write_bytes(gzip.compress("\n".join([HEADING, *rows]).replace("GROUP", group).encode()))
        found[group] = mails_of(file, lambda client: 64_500)
    assert found["easy"] == found["spam"]
    first, second, third = found["easy"]
    assert (first.seconds, first.bad, second.bad, third.entities) == (100.0, True, False, ())
    assert {str(entity) for entity in first.entities} == {
        "prefix:2001:db8::/48",
        "ip:2001:db8::/64",
        "ip+class:2001:db8::/64,direct",
    }
    assert {str(entity) for entity in second.entities if entity.dimension != "subject"} == {
        "asn:64500",
        "prefix:192.0.2.0/24",
        "ip:192.0.2.7",
        "ip+class:192.0.2.7,list",
        "sender_domain:example.co.uk",
        "sender:mail.example.co.uk",
        "author_domain:example.com",
        "author:example.com",
        "author_domain+class:example.com,list",
    }


# Tables of networks

EXPECTED = {"9.255.255.255": 0, "10.0.0.0": 1, "10.255.255.255": 1, "11.0.0.0": 0, "128.0.0.1": 2}


@pytest.mark.parametrize(
    "text",
    [
        '10.0.0.0,10.255.255.255,1,"One, Inc."\n128.0.0.0,255.255.255.255,2,Two\n',
        "2147483648,4294967295,2,Two\n167772160,184549375,1,One\n",
    ],
    ids=["text", "numbers"],
)
def test_ranges(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text(text, encoding="utf-8")
    look_up = networks.opened(file)
    assert {address: look_up(IPv4Address(address)) for address in EXPECTED} == EXPECTED


def location_db() -> bytes:
    """A tree with ::ffff:10.0.0.0/104 and ::ffff:128.0.0.0/97."""
    nodes: list[list[int]] = [[0, 0, networks.NONE]]
    for address, length, network in ((0xFFFF_0A00_0000, 104, 0), (0xFFFF_8000_0000, 97, 1)):
        node = 0
        for bit in range(127, 127 - length, -1):
            side = address >> bit & 1
            if not nodes[node][side]:
                nodes[node][side] = len(nodes)
                nodes.append([0, 0, networks.NONE])
            node = nodes[node][side]
        nodes[node][2] = network
    tree = b"".join(struct.pack(">3I", *node) for node in nodes)
    table = b"".join(struct.pack(">2s2xI4x", b"XX", number) for number in (1, 2))
    begin = len(networks.MAGIC) + networks.HEADER.size
    offsets = (0, 0, begin, len(table), begin + len(table), len(tree), 0, 0, 0, 0)
    return networks.MAGIC + networks.HEADER.pack(0, 0, 0, 0, *offsets) + table + tree


def test_a_tree(tmp_path: Path) -> None:
    file = tmp_path / "location.db"
    file.write_bytes(location_db())
    look_up = networks.opened(file)
    assert {address: look_up(IPv4Address(address)) for address in EXPECTED} == EXPECTED
