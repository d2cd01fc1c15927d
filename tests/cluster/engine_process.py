"""A process of the fleet, for tests: an engine that is asked on standard input and answers on standard output.

    python -m tests.cluster.engine_process STORE_URL PREFIX WALL_CLOCK_OFF_BY_SECONDS

One JSON list a line: ["judge", client], ["put", target, lasts_seconds or null], ["lift", id], ["failures"], or
["until", client, reason, patience_seconds], which answers how long it took until a connection of the client was judged
so, or null. Each is answered by one line, in the order in which they come to an end.
"""

import asyncio
import json
import sys
from ipaddress import ip_address
from typing import Any

from reputation.assemble import open_engine
from reputation.clock import SystemClock
from reputation.config import Settings, StoreSettings
from reputation.engine import Engine
from reputation.entries import Ban, parse_target
from reputation.errors import ReputonError
from reputation.events import Connect, Session
from reputation.spelling import Spelling

POLL_SECONDS = 0.005


async def main(url: str, prefix: str, off_by_seconds: float) -> None:
    right = SystemClock.now
    SystemClock.now = lambda self: right(self) + off_by_seconds  # type: ignore[method-assign]  # this machine's clock is off
    settings = Settings(store=StoreSettings(url=url, prefix=prefix, deadline_seconds=1.0))
    loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with open_engine(settings) as engine, asyncio.TaskGroup() as tasks:
        answer(["ready"])
        while line := await lines.readline():
            tasks.create_task(carry_out(engine, *json.loads(line)))


async def carry_out(engine: Engine, command: str, *arguments: Any) -> None:
    try:
        answer(await asked(engine, command, *arguments))
    except ReputonError as error:
        answer({"error": str(error)})


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def asked(engine: Engine, command: str, *arguments: Any) -> object:
    match command, arguments:
        case "judge", (str(client),):
            return (await judged(engine, client)).split()
        case "until", (str(client), str(reason), patience):
            return await until(engine, client, reason, patience)
        case "put", (str(text), lasts):
            return await put(engine, text, lasts)
        case "lift", (str(id),):
            return await engine.registrar.lift(id, author="bob", reason="over")
        case "failures", ():
            samples = (sample for family in engine.metrics.registry.collect() for sample in family.samples)
            return sum(sample.value for sample in samples if sample.labels.get("call") == "register")
    raise ValueError(command)


async def judged(engine: Engine, client: str) -> str:
    verdict = await engine.judge(Connect(session=Session(id="s", client=ip_address(client))))
    return f"{verdict.action} {verdict.reason}"


async def until(engine: Engine, client: str, reason: str, patience: float) -> float | None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while loop.time() < started + patience:
        if (await judged(engine, client)).endswith(reason):
            return loop.time() - started
        await asyncio.sleep(POLL_SECONDS)
    return None


async def put(engine: Engine, text: str, lasts: float | None) -> str:
    """`lasts` is counted by the store's clock, as whoever writes a ban down means it."""
    now = engine.registrar.time_at(asyncio.get_running_loop().time())
    expires_at = None if lasts is None else now + lasts
    entry = Ban(
        target=parse_target(text, Spelling()), author="eve", reason="spam", created_at=now, expires_at=expires_at
    )
    await engine.registrar.put(entry)
    return entry.id


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
