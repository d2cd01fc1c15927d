"""Entries and suspects page by page: each on one page, in order, whatever comes and goes in between."""

import pytest

from reputation.desk.acting import entries_among
from reputation.desk.case_files import suspects_of
from reputation.desk.documents import EntryRows
from reputation.entries import Ban, Entry
from reputation.errors import ConfigError
from reputation.holds import HELD_BY
from reputation.register import Register
from tests.entries_for_tests import ban, listing, override, target

NOW = 1_000.0


async def page_of(
    register: Register, *, kind: str = "", matching: str = "", after: str = "", n: int = 100
) -> EntryRows:
    return await entries_among(register, NOW, kind=kind, matching=matching, after=after, n=n)


async def walk(register: Register, *, kind: str = "", matching: str = "", n: int) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = await page_of(register, kind=kind, matching=matching, after=after, n=n)
        assert len(page.entries) <= n
        found += [entry.id for entry in page.entries]
        if page.next is None:
            return found
        after = page.next


SEVERAL: list[Entry] = [
    *(ban(f"user:u{number}") for number in range(7)),
    *(listing("vip", f"user:u{number}") for number in range(3)),
    override("user:u1"),
    ban("user:over", expires_at=NOW),
]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100])
async def test_every_entry_is_on_one_page(n: int) -> None:
    register = Register.of(SEVERAL)
    in_force = sorted(entry.id for entry in SEVERAL if entry.in_force(NOW))
    assert await walk(register, n=n) == in_force
    assert await walk(register, kind="list", n=n) == [id for id in in_force if id.startswith("list|")]
    assert await walk(register, matching="U1", n=n) == [id for id in in_force if id.endswith("u1")]
    assert await walk(register, kind="ban", matching="spam RUN", n=n) == [id for id in in_force if id[:3] == "ban"]
    assert await walk(register, matching="nobody", n=n) == []


async def test_the_total_is_of_all_pages() -> None:
    register = Register.of(SEVERAL[:-1])
    assert (await page_of(register, n=1)).total == 11
    assert (await page_of(register, kind="ban", after="ban|user:u3", n=1)).total == 7
    assert (await page_of(register, matching="a partner", n=1)).total == 3
    assert (await page_of(register, matching="eve\nspam")).total == 0, "a text is in one field"


async def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind: one of ban, override, list"):
        await page_of(Register.of([]), kind="token")


def held(user: str, since: float, until: float | None = None) -> Ban:
    return Ban(
        target=target(f"user:{user}"), author=f"{HELD_BY}many", reason="many", created_at=since, expires_at=until
    )


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_every_suspect_is_on_one_page_the_latest_first(n: int) -> None:
    register = Register.of(
        [held("a", 5.25), held("b", 7), held("c", 7), held("over", 7, NOW), held("d", 1), ban("user:e")]
    )
    found: list[str] = []
    after = ""
    while True:
        page = suspects_of(register, NOW, after=after, n=n)
        assert len(page.suspects) <= n
        found += [each.entity for each in page.suspects]
        if page.next is None:
            break
        after = page.next
    assert found == ["user:b", "user:c", "user:a", "user:d"]
    assert page.total == 5, "who is held no more counts until he is swept"


def test_pages_of_suspects_go_on_when_others_come_and_go() -> None:
    register = Register.of([held(name, 10 - number) for number, name in enumerate("abcd")])
    first = suspects_of(register, NOW, n=2)
    assert first.next is not None
    register = register.changed({"ban|user:b": None, "ban|user:new": held("new", 99), "ban|user:d": ban("user:d")})
    assert [each.entity for each in suspects_of(register, NOW, after=first.next, n=2).suspects] == ["user:c"]
    assert [each.entity for each in suspects_of(register, NOW, n=2).suspects] == ["user:new", "user:a"]


def test_a_page_that_there_was_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="after: what the page before has"):
        suspects_of(Register.of([]), NOW, after="user:bob")
