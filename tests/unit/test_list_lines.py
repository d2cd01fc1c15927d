"""What a line of a list means, and what is said about one that could not mean what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation import list_lines as module
from reputation.entries import MAX_REASON_LENGTH, Network, Target, spelled
from reputation.keys import Dimension
from reputation.list_lines import LISTED, Reader
from reputation.lists import Lists, Source
from reputation.spelling import Spelling
from tests.entries_for_tests import SPELLING, networks, target


def read(of: str, *lines: str, name: str = "vip", never_ban: tuple[Target, ...] = (), room: int = 1_000) -> Reader:
    reader = Reader(Source(list=name, of=of), SPELLING, room=room, never_ban=never_ban)
    for number, line in enumerate(lines, 1):
        reader.take(line, number)
    return reader


def texts(reader: Reader) -> dict[str, str]:
    """Target -> reason, of all that a reader has taken."""
    reading = reader.reading(0.0)
    found = {f"{name}:{id}": reason for name, ids in reading.entities.items() for id, reason in ids.items()}
    for (bits, shift), numbers in reading.ranges.items():
        lists = Lists([reading])
        for number in numbers:
            (entry,) = [
                each
                for each in lists.around(bits, number << shift)
                if not isinstance(each.target, tuple) and each.target.prefixlen == bits - shift
            ]
            found[spelled(entry.target)] = entry.reason
    return found


@pytest.mark.parametrize(
    ("of", "line", "means"),
    [
        ("ip", "192.0.2.7", "ip:192.0.2.7"),
        ("ip", "192.0.2.0/24", "ip:192.0.2.0/24"),
        ("ip", "0.0.0.0/0", "ip:0.0.0.0/0"),
        ("ip", "ip:192.0.2.0/23", "ip:192.0.2.0/23"),
        ("prefix", "192.0.0.0/16", "ip:192.0.0.0/16"),
        ("ip", "2001:db8::/32", "ip:2001:db8::/32"),
        ("ip", "::ffff:192.0.2.7", "ip:192.0.2.7"),
        ("sender", "Alice+news@Example.COM", "sender:alice@example.com"),
        ("sender", "a#1@example.com", "sender:a#1@example.com"),
        ("sender", "sender:#1@example.com", "sender:#1@example.com"),
        ("recipient", "Postmaster", "recipient:postmaster"),
        ("sender_domain", "example.com.", "sender_domain:example.com"),
        ("sender_domain", "bücher.example", "sender_domain:xn--bcher-kva.example"),
        ("sender_domain", "sender:alice@example.com", "sender:alice@example.com"),
        ("rdns_domain", "mail.example.com", "rdns_domain:example.com"),
        ("user", "Newsletter", "user:newsletter"),
        ("helo", "Mail.Example.com", "helo:mail.example.com"),
        ("asn", "AS64500", "asn:64500"),
        ("country", "de", "country:DE"),
        ("recipient+sender", "bob@example.net,alice@example.com", None),
        ("recipient+sender", "bob@example.net , Alice@example.com", None),
        ("recipient+sender", "bob@example.net\talice@example.com", None),
        ("ip", "recipient+sender:bob@example.net,alice@example.com", None),
        ("sender+ip", "alice@example.com 192.0.2.7", "sender+ip:alice@example.com,192.0.2.7"),
        ("sender+prefix", "alice@example.com 192.0.2.0/24", "sender+prefix:alice@example.com,192.0.2.0/24"),
    ],
)
def test_a_line_means_what_an_operator_would_type_with_or_without_the_dimension(
    of: str, line: str, means: str | None
) -> None:
    means = means or "recipient+sender:bob@example.net,alice@example.com"
    for written in (line, f"  {line}\r\n", f"{line}  # a partner", f"{line}\t#a partner\n"):
        reader = read(of, written)
        assert (reader.mistakes, list(texts(reader))) == ([], [means]), written
        assert texts(reader)[means] == ("a partner" if "a partner" in written else LISTED)


@pytest.mark.parametrize("line", ["", "\r\n", "   ", "# a comment", "   # a comment # 192.0.2.7", "#192.0.2.7"])
def test_an_empty_line_and_a_comment_say_nothing(line: str) -> None:
    reader = read("ip", line)
    assert (reader.size, reader.mistakes) == (0, [])


@pytest.mark.parametrize(
    ("of", "line", "message"),
    [
        ("sender_domain", "*.example.com", 'write "example.com", which stands for all names below it, too'),
        ("sender_domain", ".example.com", 'write "example.com", which'),
        ("sender_domain", "@example.com", 'write "example.com", which'),
        ("sender_domain", "mail*.example.com", "there are no patterns"),
        (
            "sender_domain",
            "alice@example.com",
            'is no domain: write "sender:alice@example.com" for this address, or "example.com" for all of the domain',
        ),
        ("rdns_domain", "alice@example.com", 'is no domain: write "example.com" for all of the domain'),
        ("sender", "@example.com", 'is no address: for all of a domain write "sender_domain:example.com"'),
        ("sender", "*@example.com", 'for all of a domain write "sender_domain:example.com"'),
        ("recipient", "*.example.com", 'for all of a domain write "recipient_domain:example.com"'),
        ("sender", "example.com", '"sender_domain:DOMAIN" for all of a domain'),
        ("sender", "alice@", "is no address"),
        ("sender", "news*@example.com", '"%2A" for a star that is meant'),
        ("sender", "<alice@example.com>", "without angle brackets"),
        ("sender", "<>", "the null sender is nobody, and on no list"),
        ("sender", "senders:alice@example.com", "in front of the colon write a dimension"),
        ("sender", "alice@example.com bob@example.com", "write one value a line"),
        ("sender", "alice@example.com,bob@example.com", "write one value a line"),
        ("sender", "alice\x00@example.com", "not printable"),
        ("ip", "192.0.2.*", 'write a network such as "192.0.2.0/24"'),
        ("ip", "192.0.2.7/24", 'type "ip:192.0.2.0/24" or "ip:192.0.2.7"'),
        ("ip", "192.0.2.256", "is no network"),
        ("ip", "192.0.2.07", "is no network"),
        ("ip", "192.0.2.0/33", "is no network"),
        ("ip", "mail.example.com", "is no network"),
        ("asn", "example", "is no number of a network"),
        ("country", "Germany", "write its two letters"),
        ("helo", "*.example.com", "there are no patterns"),
        ("recipient+sender", "bob@example.net", "has 2 dimensions and 1 values"),
        ("recipient+sender", "bob@example.net,@example.com", 'write "sender_domain:example.com"'),
        ("sender+ip", "alice@example.com 192.0.2.0/24", 'as it is counted, such as "192.0.2.0"'),
        ("sender", "sender:", "is no address"),
        ("helo", "helo:", "names no entity"),
    ],
)
def test_a_line_that_could_never_match_says_what_to_write_instead(of: str, line: str, message: str) -> None:
    reader = read(of, line, "# nothing")
    ((number, text),) = reader.mistakes
    assert message in text
    assert (number, reader.size) == (1, 0)


def test_a_star_that_is_meant_can_be_written() -> None:
    assert list(texts(read("sender", "star%2A@example.com"))) == ["sender:star*@example.com"]


def test_subjects_may_have_anything_in_them() -> None:
    reader = Reader(Source(list="vip", of="subject"), Spelling(subject_key=b"k"))
    reader.take("Hello, * world  # seen often", 1)
    assert (reader.mistakes, reader.size) == ([], 1)


def test_a_domain_that_lists_more_or_less_than_it_seems_is_noted() -> None:
    reader = read("sender_domain", "example.com", "mail.example.com", "top")
    assert reader.notes == [
        (2, '"mail.example.com" lists the whole registered domain: "sender_domain:example.com"'),
        (3, '"top" lists that name alone, and no domain below it'),
    ]
    assert (reader.size, reader.mistakes) == (2, [])


def test_only_the_first_notes_are_kept_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NOTES", 2)
    reader = read("sender_domain", *(f"m{n}.example.com" for n in range(5)))
    assert ([number for number, _ in reader.notes], reader.noted) == ([1, 2], 5)


def test_whoever_makes_nothing_but_mistakes_is_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MISTAKES", 3)
    reader = read("ip", *["nonsense"] * 10)
    assert (len(reader.mistakes), reader.given_up) == (3, True)


def test_there_is_room_for_so_many_values_and_for_the_same_again() -> None:
    reader = read("ip", "192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.3", room=2)
    assert reader.mistakes == [(4, "here is one value too many: all lists together may have 1,000,000")]
    assert (reader.size, reader.given_up) == (2, True)


def test_a_comment_is_cut_to_what_an_entry_may_have_as_its_reason() -> None:
    (reason,) = texts(read("ip", f"192.0.2.7 # x\x07{'y' * 900}")).values()
    assert reason == f"x?{'y' * (MAX_REASON_LENGTH - 2)}"


def test_what_is_new_is_counted_against_the_reading_before() -> None:
    source = Source(list="vip", of="ip")
    before = Reader(source, SPELLING)
    for line in ("192.0.2.1", "192.0.2.0/24", "sender:a@example.com"):
        before.take(line, 1)
    after = Reader(source, SPELLING, before=before.reading(0.0))
    for line in ("192.0.2.1", "192.0.2.9", "192.0.2.9", "sender:a@example.com", "sender:b@example.com"):
        after.take(line, 1)
    assert (after.size, after.added) == (4, 2)


# Block


PROTECTED = (target("ip:192.0.2.7"), target("sender_domain:example.com"), target("recipient:bob@example.net"))


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("ip:192.0.2.7", '"ip:192.0.2.7" does not block "ip:192.0.2.7", which is never banned'),
        ("ip:192.0.2.0/24", '"ip:192.0.2.0/24" does not block "ip:192.0.2.7", which is never banned'),
        ("ip:192.0.2.8", None),
        ("ip:2001:db8::/32", None),
        ("sender_domain:example.com", '"sender_domain:example.com" does not block "sender_domain:example.com", which'),
        ("sender:a@example.com", '"sender:a@example.com" does not block "sender_domain:example.com", which is'),
        ("recipient_domain:example.net", '"recipient_domain:example.net" does not block "recipient:bob@example.net"'),
        ("sender:a@example.org", None),
        ("ip:10.0.0.0/12", '"ip:10.0.0.0/12" blocks 1,048,576 addresses'),
    ],
)
def test_what_a_blocklist_does_not_block_or_blocks_widely_is_noted(line: str, note: str | None) -> None:
    reader = read("ip", line, name="block", never_ban=PROTECTED)
    assert reader.mistakes == []
    assert [text.startswith(note) for _, text in reader.notes if note] == ([True] if note else [])
    assert reader.noted == (note is not None)
    assert read("ip", line, never_ban=PROTECTED).notes == [], "another list refuses nobody"


@pytest.mark.parametrize("line", ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/7", "::/0", "2000::/15"])
def test_a_slip_does_not_block_the_world(line: str) -> None:
    ((_, text),) = read("ip", line, name="block").mistakes
    assert "would block far too much" in text
    assert read("ip", line, name="allow").mistakes == []


# Any line


@given(networks())
def test_every_network_is_read_as_it_is_spelled(network: Network) -> None:
    for line in (str(network), spelled(network)):
        reader = read("ip", line)
        assert (reader.mistakes, list(texts(reader))) == ([], [spelled(target(f"ip:{network}"))])


@given(st.sampled_from([*Dimension, "recipient+sender", "sender+ip"]), st.text(max_size=40))
def test_any_line_is_a_value_or_a_mistake(of: str, line: str) -> None:
    reader = read(of, line, name="block", never_ban=PROTECTED)
    assert reader.size + len(reader.mistakes) <= 1
    assert set(texts(reader)) == {spelled(target(text)) for text in texts(reader)}, "all are entries"
