"""What every store promises about erasing an entity: `reputation.contracts.Store.forget`."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from reputation.bookkeeping import TRACKING
from reputation.charges import Charge, Plan
from reputation.contracts import Board, Store
from reputation.errors import StoreUnavailable
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric, composite, distinct
from reputation.score import EvidenceKind
from reputation.spelling import escaped
from reputation.store import redis_notes
from reputation.store.functions import slot_of
from reputation.store.node import PERMISSIONS, Node
from reputation.store.redis_store import RedisStore
from reputation.windows import Window
from tests.builders import came, evidence, lease, met, seen
from tests.clusters import redis_cluster
from tests.contracts.asking import PATIENCE_SECONDS
from tests.servers import RedisServer

HOUR = Window(3_600)
AT_ONCE = 200
ALICE = Entity("sender", "alice@example.com")
CLIENT = Entity("ip", "192.0.2.7")
NEAR = (
    "malice@example.com",
    "alice@example.community",
    "alice@example.com.net",
    "alice@examplexcom",
    "alice@example.co",
    "alice@example.com~",
)
HOSTILE = [
    "*",
    "[a-z]",
    "[a]",
    "?",
    "\\",
    "\\*",
    "^x",
    "]",
    "a{b}c",
    "}{",
    "\u202eabc",
    "x" * 4_096,
    "a,b",
    "a:b",
    "\udcff",
]


def charge(entity: Entity, metric: str = Metric.MESSAGES) -> Charge:
    return Charge(Key(entity, metric), Plan(TRACKING))


def joined(*entities: Entity) -> Entity:
    parts = {Dimension(entity.dimension): entity for entity in entities}
    together = composite(parts, list(parts))
    assert together is not None
    return together


async def put(store: Store, entities: Sequence[Entity]) -> None:
    for start in range(0, len(entities), AT_ONCE):
        await store.decide([charge(each) for each in entities[start : start + AT_ONCE]])


async def counts(store: Store, *entities: Entity, metric: str = Metric.MESSAGES) -> list[int]:
    found: list[int] = []
    for start in range(0, len(entities), AT_ONCE):
        found += await store.counts([Key(each, metric) for each in entities[start : start + AT_ONCE]], HOUR)
    return found


async def test_whom_nothing_is_known_of_is_no_trouble(store: Store) -> None:
    assert await store.forget(ALICE) == 0


async def test_all_that_is_kept_about_an_entity_is_erased(store: Store) -> None:
    kinds = [
        charge(ALICE),
        charge(ALICE, Metric.BYTES),
        came("9/1h", key=Key(ALICE, Metric.MESSAGES, "daily")),
        met("bob@example.net", "9/1h", key=Key(ALICE, distinct(Dimension.RECIPIENT), "daily")),
        lease("session", 9, key=Key(ALICE, Metric.CONCURRENT, "daily")),
        evidence(EvidenceKind.SPAM, key=Key(ALICE, EVIDENCE)),
        seen(key=Key(ALICE, "seen")),
    ]
    await store.decide(kinds)
    sketch = Key(ALICE, distinct(Dimension.IP))
    await store.saw(sketch, ["192.0.2.7", "192.0.2.8"])
    assert await store.forget(ALICE) == len(kinds) + 1
    assert await store.series(ALICE) == []
    assert await counts(store, ALICE, metric=Metric.BYTES) == [0]
    assert [(row.last_hour, row.last_day) for row in await store.sketches([sketch])] == [(0, 0)]
    assert await store.forget(ALICE) == 0


async def test_what_is_joined_with_others_goes_and_the_others_stay(store: Store) -> None:
    user, bob = Entity("user", "alice"), Entity("recipient", "bob@example.net")
    gone = [ALICE, joined(CLIENT, ALICE), joined(ALICE, bob), joined(CLIENT, ALICE, bob)]
    malice = Entity("sender", NEAR[0])
    staying = [CLIENT, user, bob, joined(CLIENT, malice), joined(CLIENT, bob), Entity("recipient", ALICE.id)]
    staying += [joined(CLIENT, Entity("recipient", ALICE.id)), *(Entity("sender", name) for name in NEAR)]
    await put(store, [*gone, *staying])
    assert await store.forget(ALICE) == len(gone)
    assert await counts(store, *gone) == [0] * len(gone)
    assert await counts(store, *staying) == [1] * len(staying)


async def test_several_that_are_joined_are_erased_together_and_each_of_them_stays(store: Store) -> None:
    bob, long = Entity("recipient", "bob@example.net"), Entity("recipient", "b" * 199)
    pair, shortened = joined(CLIENT, ALICE), joined(CLIENT, ALICE, long)
    gone = [pair, joined(ALICE, CLIENT), joined(ALICE, bob, CLIENT)]
    staying = [CLIENT, ALICE, joined(CLIENT, bob), joined(ALICE, bob), shortened]
    await put(store, [*gone, *staying])
    assert await store.forget(pair) == len(gone)
    assert await counts(store, *gone, *staying) == [0] * len(gone) + [1] * len(staying)
    assert await store.forget(shortened) == 1


async def test_exactly_the_given_network_is_erased(store: Store) -> None:
    wide, near = Entity("prefix", "2001:db8:1::/48"), Entity("ip", "2001:db8:1:2::/64")
    others = [wide, Entity("ip", "2001:db8:1:20::/64"), Entity("prefix", "192.0.2.0/24"), CLIENT]
    await put(store, [near, *others])
    assert await store.forget(near) == 1
    assert await counts(store, near, *others) == [0, 1, 1, 1, 1]
    assert await store.forget(Entity("ip", "192.0.2.70")) == 0


async def test_it_is_taken_off_its_leaderboards_and_no_others(store: Store) -> None:
    hourly, daily = Board("sender", Metric.MESSAGES, HOUR), Board("sender", Metric.BYTES, Window(86_400))
    domains, recipients = Board("sender_domain", Metric.MESSAGES, HOUR), Board("recipient", Metric.MESSAGES, HOUR)
    for board in (hourly, daily, domains, recipients):
        await store.offer(board, {ALICE.id: 5, NEAR[0]: 4})
    assert await store.forget(ALICE) == 2
    for board in (hourly, daily):
        assert await store.board(board, 10) == [(NEAR[0], 4)]
    for board in (domains, recipients):
        assert await store.board(board, 10) == [(ALICE.id, 5), (NEAR[0], 4)]


async def test_the_register_notes_and_the_stream_stay(store: Store) -> None:
    await store.enter(f"ban|{ALICE}", "{}", expires_us=None, line="put")
    await store.keep(str(ALICE), "text", 60)
    await store.publish([str(ALICE)])
    assert await store.forget(ALICE) == 0
    assert (await store.entries(0)).texts == {f"ban|{ALICE}": "{}"}
    assert await store.kept(str(ALICE)) == "text"
    assert len(await store.published("0", 9)) == 1


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_names_that_mean_something_to_a_server(store: Store, text: str) -> None:
    odd, others = Entity("helo", escaped(text)), [Entity("helo", "mail.example.com"), Entity("helo", "b")]
    others += [Entity("helo", escaped(other)) for other in HOSTILE if other != text]
    await put(store, [odd, *others, joined(CLIENT, odd), *(joined(CLIENT, other) for other in others)])
    assert await store.forget(odd) == 2
    assert await counts(store, odd, joined(CLIENT, odd)) == [0, 0]
    assert await counts(store, *others) == [1] * len(others)
    assert await counts(store, *(joined(CLIENT, other) for other in others)) == [1] * len(others)


async def test_one_among_thousands_is_found_while_others_are_judged(store: Store) -> None:
    crowd = [Entity("sender", f"user{number}@example.org") for number in range(20_000)]
    await put(store, [*crowd, ALICE])
    forgetting = asyncio.create_task(store.forget(ALICE))
    judged = 0
    while not forgetting.done() and judged < len(crowd):
        answer = await store.decide([charge(crowd[judged])])
        assert answer.allowed
        judged += 1
        await asyncio.sleep(0)
    assert await forgetting == 1
    assert judged > 10, "nobody had to wait for the end of it"
    assert await counts(store, ALICE, *crowd) == [0] + [2] * judged + [1] * (len(crowd) - judged)


# Servers


@pytest.fixture(params=["redis_7", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    found: RedisServer = request.getfixturevalue(request.param)
    return found


async def test_what_others_keep_on_the_server_stays(server: RedisServer, prefix: str) -> None:
    store = RedisStore(server.url, prefix=f"{prefix}[a]", deadline_seconds=PATIENCE_SECONDS)
    names = [
        f"{prefix}a:{{{ALICE}}}:messages",
        f"{prefix}[a]x:{{{ALICE}}}:messages",
        f"{prefix}[a]:{ALICE}",
        f"{{{ALICE}}}:messages",
    ]
    names += [f"x:{prefix}[a]:{{{ALICE}}}:messages", f"{prefix}[a]:{{\udcff{ALICE}}}:messages"]
    for name in names:
        server.command("SET", name.encode("utf-8", "surrogateescape"), "x")
    try:
        await store.decide([charge(ALICE)])
        assert await store.forget(ALICE) == 1
        assert [server.command("DEL", name.encode("utf-8", "surrogateescape")) for name in names] == [1] * len(names)
    finally:
        await store.close()


async def test_it_needs_no_permission_that_is_not_written_down(server: RedisServer, prefix: str) -> None:
    server.command(
        "ACL", "SETUSER", f"user-{prefix}", "reset", "on", ">pw", *PERMISSIONS.replace("PREFIX", prefix).split()
    )
    url = server.url.replace("://", f"://user-{prefix}:pw@")
    store = RedisStore(url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    try:
        await store.decide([charge(ALICE)])
        await store.offer(Board("sender", Metric.MESSAGES, HOUR), {ALICE.id: 5})
        assert await store.forget(ALICE) == 2
        await store.publish(["a"])
        (line,) = await store.published("0", 9)
        assert await store.last_published(9) == [line]
        assert await store.unpublish([line.id]) == 1
        assert await store.keep("n", "text", 60) is None
        assert (await store.keep("n", "x", 60), await store.kept("n")) == ("text", "text")
        await store.drop("n")
        assert await store.remark("reload", "line") > 0
    finally:
        await store.close()
        server.command("ACL", "DELUSER", f"user-{prefix}")


async def test_a_server_that_is_away_is_unavailable() -> None:
    store = RedisStore("redis://127.0.0.1:1", deadline_seconds=0.1)
    for call in (
        store.forget(ALICE),
        store.publish(["a"]),
        store.keep("n", "text", 60),
        store.remark("reload", "line"),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()


async def test_a_key_that_moves_behind_the_search_is_found(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server that is still to be gone through, to one that has been."""
    with redis_cluster() as cluster:
        store = RedisStore(cluster.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
        await put(store, [ALICE, *(Entity("sender", name) for name in NEAR)])
        slot = slot_of(Key(ALICE, Metric.MESSAGES).spelled(prefix))
        owner = cluster.server_of(slot)
        target = random.choice([each for each in cluster.primaries if each is not owner])
        piece, moved, gone_through = redis_notes._piece, asyncio.Event(), asyncio.Event()

        async def moving(node: Node, cursor: bytes, pattern: bytes) -> tuple[bytes, list[bytes]]:
            if node.address.port == owner.port and not moved.is_set():
                await gone_through.wait()
                await asyncio.to_thread(cluster.migrate, slot, target)
                moved.set()
            told = await piece(node, cursor, pattern)
            if node.address.port == target.port and told[0] == b"0":
                gone_through.set()
            return told

        monkeypatch.setattr(redis_notes, "_piece", moving)
        assert await store.forget(ALICE) == 1
        assert moved.is_set()
        assert await counts(store, ALICE, *(Entity("sender", name) for name in NEAR)) == [0] + [1] * len(NEAR)

        cluster.primaries[0].kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(StoreUnavailable):
                await store.forget(ALICE)
        await store.close()
