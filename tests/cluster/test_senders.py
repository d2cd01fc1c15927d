"""A flood of senders who are seen once: what they cost, and whether the ten who matter are still found.

Must show: a million one-shot senders: memory as documented, top-10 still right.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import hiredis
import pytest

from reputation.bookkeeping import TRACKED_WINDOWS
from reputation.charges import Answer, Charge
from reputation.contracts import Board
from reputation.engine import Engine
from reputation.keys import Dimension, Entity, Key, Metric, entities_of
from reputation.policy import Policy
from reputation.store import functions
from reputation.store.redis_store import RedisStore
from reputation.vocabulary import Moment
from reputation.windows import MICROSECONDS
from tests.builders import mail
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS
from tests.servers import RedisServer, redis_server, valkey_server

BYTES_PER_SENDER = 380
"""As DESIGN section 4 has it: key, three windows and expiry."""
AT_ONCE = 1_000
ROUND = 50_000
"""Senders between two offers of the upkeep."""
HEAVY = {f"heavy-{number}@example.com": 200 - 10 * number for number in range(10)}
"""The ten with the most messages."""
TOP = [(Entity(Dimension.SENDER, sender), count) for sender, count in HEAVY.items()]
MIDDLING = {f"middling-{number}@example.com": 40 for number in range(60)}
HOUR_US = 3_600 * MICROSECONDS


@pytest.fixture(params=[(valkey_server, 1_000_000), (redis_server, 100_000)], ids=["valkey-1M", "redis-100k"])
def flood(request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer, int]]:
    """A server, and how many senders it is to see."""
    start, number = request.param
    started: AbstractContextManager[RedisServer] = start()
    with started as server:
        yield server, number


def engine_on(store: RedisStore) -> Engine:
    return Engine(policy=Policy(tracked=frozenset({Dimension.SENDER})), store=store)


def once(number: int) -> str:
    """A sender who is seen once."""
    return f"once-{number:07}@example.com"


def plain_charge(engine: Engine, sender: str) -> Charge:
    """What a message of a sender is charged."""
    [charge] = engine.policy.charges_for(Moment(mail(sender), entities_of(mail(sender), engine.spelling), 0.0))
    return charge


class Pipe:
    """Decisions on a connection of their own, a thousand at a time: as many as the server can take."""

    def __init__(self, engine: Engine, prefix: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        model = plain_charge(engine, once(0))
        self._plan = model.plan
        self._command = functions.decide_command((model,), prefix, "", None)
        self._model = once(0).encode()
        self._reader, self._writer = reader, writer
        self._replies = hiredis.Reader()

    async def decide(self, senders: Iterator[str]) -> None:
        """One message of each, and the upkeep is told of each answer, as an engine does."""
        asked: list[Charge] = []
        while batch := [self._charge(sender) for sender in itertools.islice(senders, AT_ONCE)]:
            command, model = self._command, self._model  # names are equally long, so only they differ
            self._writer.write(b"".join(command.replace(model, charge.key.entity.id.encode()) for charge in batch))
            await self._hear(asked)
            asked = batch
        await self._hear(asked)

    def _charge(self, sender: str) -> Charge:
        return Charge(Key(Entity(Dimension.SENDER, sender), Metric.MESSAGES), self._plan)

    async def _hear(self, asked: Sequence[Charge]) -> None:
        for charge in asked:
            while (reply := self._replies.gets()) is False:
                self._replies.feed(await self._reader.read(1 << 18))
            answer = functions.one_answer((charge,), "", reply)
            self._engine.upkeep.note(answer)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def judge_some(engine: Engine, messages: dict[str, int], part: int, parts: int) -> None:
    """The share of this round in the messages of some senders."""
    for sender, count in messages.items():
        for _ in range(count * (part + 1) // parts - count * part // parts):
            await engine.judge(mail(sender))


async def test_a_million_senders_cost_what_is_documented_and_hide_nobody(
    flood: tuple[RedisServer, int], open_store: OpenStore, prefix: str
) -> None:
    server, number = flood
    store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    engine = engine_on(store)
    pipe = Pipe(engine, prefix, *await asyncio.open_connection("127.0.0.1", server.port))
    before = server.command("INFO", "memory")["used_memory"]
    parts = number // ROUND
    for part in range(parts):
        await pipe.decide(map(once, range(part * ROUND, (part + 1) * ROUND)))
        await judge_some(engine, HEAVY | MIDDLING, part, parts)
        await engine.upkeep.offer()
    used = server.command("INFO", "memory")["used_memory"] - before
    assert server.command("DBSIZE") >= number + len(HEAVY) + len(MIDDLING)
    assert used / number <= BYTES_PER_SENDER
    boards = TRACKED_WINDOWS if parts >= 15 else TRACKED_WINDOWS[:1]  # those whose turn to be offered has come
    for window in boards:
        assert await engine.top(Dimension.SENDER, Metric.MESSAGES, window, 10) == TOP
    await pipe.close()


class PastStore(RedisStore):
    """A store where it is another time."""

    now_us = 0

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        return await super().decide(charges, token=token, now_us=self.now_us if now_us is None else now_us)

    async def offer(self, board: Board, counts: "dict[str, int]", *, now_us: int | None = None) -> None:  # type: ignore[override]  # as it is called
        await super().offer(board, counts, now_us=self.now_us if now_us is None else now_us)


async def test_who_had_the_most_is_known_for_two_days(server: RedisServer, prefix: str) -> None:
    seconds, _ = server.command("TIME")
    now_us = int(seconds) * MICROSECONDS
    store = PastStore(server.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    moments = {"old": now_us - 47 * HOUR_US, "late": now_us - 5 * HOUR_US}
    window = TRACKED_WINDOWS[0]
    for name, moment in moments.items():
        store.now_us = moment
        engine = engine_on(store)
        for part in range(3):
            crowd = (engine.judge(mail(f"{name}-{part}-{sender}@example.com")) for sender in range(1_000))
            await asyncio.gather(*crowd)
            await judge_some(engine, {f"{name}-{sender}": count for sender, count in HEAVY.items()}, part, 3)
            await engine.upkeep.offer()
    asking = engine_on(store)
    for name, moment in moments.items():
        top = await asking.top(Dimension.SENDER, Metric.MESSAGES, window, 10, at=moment / MICROSECONDS)
        assert top == [(Entity(Dimension.SENDER, f"{name}-{sender}"), count) for sender, count in HEAVY.items()]
    assert await asking.top(Dimension.SENDER, Metric.MESSAGES, window, 10, at=(now_us - HOUR_US) / MICROSECONDS) == []
    await store.close()
