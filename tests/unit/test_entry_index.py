"""That entries in order are the same however their index came about, and are made only once."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from hypothesis import given
from hypothesis import strategies as st

from reputation.entries import Entry
from reputation.entry_index import MAX_TAKEN_OVER, EntryIndex
from tests.entries_for_tests import ban, listing, override


def by_id(*entries: Entry) -> dict[str, Entry]:
    return {entry.id: entry for entry in entries}


SOME = by_id(ban("user:bob"), ban("ip:192.0.2.7"), listing("vip", "user:bob"), override("user:bob"))


def test_entries_of_a_kind_stand_together() -> None:
    index = EntryIndex(SOME)
    assert index.rows.ids == tuple(sorted(SOME))
    assert [index.count(kind) for kind in ("ban", "list", "override", "")] == [2, 1, 1, 4]
    start, end = index.range_of("list")
    assert index.rows.entries[start:end] == (listing("vip", "user:bob"),)
    assert index.range_of("grudge") == (2, 2)


def test_a_page_begins_behind_an_id_that_may_be_gone() -> None:
    index = EntryIndex(SOME)
    assert index.rows.ids[index.place_after("ban|ip:192.0.2.7")] == "ban|user:bob"
    assert index.rows.ids[index.place_after("ban|ip:192.0.2.8")] == "ban|user:bob"
    assert index.place_after("zzz") == len(SOME)


def test_what_is_made_is_made_once_and_then_out_of_what_there_was() -> None:
    asked: list[tuple[int | None, set[str]]] = []

    def number(entries: Mapping[str, Entry], before: int | None, others: AbstractSet[str]) -> int:
        asked.append((before, set(others)))
        return len(entries)

    index = EntryIndex(SOME)
    assert (index.made(number), index.made(number), len(asked)) == (4, 4, 1)
    after = EntryIndex(SOME).of_next(SOME, {"a"})
    assert after.made(number) == 4
    assert asked.pop() == (None, set()), "there was nothing to take over"
    later = index.of_next(SOME, frozenset({"a"})).of_next(SOME, frozenset({"b"}))
    assert later.made(number) == 4
    assert asked.pop() == (4, {"a", "b"})
    far = index.of_next(SOME, frozenset(map(str, range(MAX_TAKEN_OVER + 1))))
    assert far.made(number) == 4
    assert asked.pop() == (None, set())


aims = st.sampled_from([ban(f"user:{name}") for name in "abcdefg"] + [listing("vip", "user:c"), override("user:d")])


@given(st.lists(st.lists(st.tuples(aims, st.booleans()), max_size=4), max_size=6), st.lists(st.booleans(), min_size=6))
def test_an_index_that_was_mended_is_as_one_made_anew(
    rounds: list[list[tuple[Entry, bool]]], asked: list[bool]
) -> None:
    entries, index = dict[str, Entry](), EntryIndex({})
    for changes, is_asked in zip(rounds, asked, strict=False):
        if is_asked:
            assert index.rows == EntryIndex(entries).rows
        entries = {**entries, **{entry.id: entry for entry, _ in changes}}
        entries = {id: it for id, it in entries.items() if all(stays for entry, stays in changes if entry.id == id)}
        index = index.of_next(entries, frozenset(entry.id for entry, _ in changes))
    assert index.rows == EntryIndex(entries).rows
