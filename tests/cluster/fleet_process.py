"""One process of a fleet, for tests: an engine with a few rules, asked on standard input, answering on standard output.

    python -m tests.cluster.fleet_process STORE_URL PREFIX CLOCKS_OFF_BY_SECONDS

Each line in is ``mail SENDER`` or ``connect SESSION``; each line out a JSON list of action, count and wait in seconds.
All clocks of the process are off, before anything can look at them.
"""

# ruff: noqa: E402 - the clocks come first
import sys
import time
from collections.abc import Callable


def _off(clock: Callable[[], float], by: float) -> Callable[[], float]:
    return lambda: clock() + by


if __name__ == "__main__":
    for name in ("time", "monotonic"):
        setattr(time, name, _off(getattr(time, name), float(sys.argv[3])))

import asyncio
import json
from ipaddress import ip_address

from reputation.engine import Engine
from reputation.events import Connect, Event, Mail, Session
from reputation.keys import Dimension, Metric
from reputation.policy import Policy
from reputation.rules import Rule
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from reputation.windows import Limit, Window
from tests.builders import connect, mail, rule

CLIENT = ip_address("192.0.2.1")
LEASE_SECONDS = 2
SESSIONS = 2
MESSAGES = 6
MESSAGES_SECONDS = 2


def fleet_rules() -> tuple[Rule, ...]:
    """So many messages of a sender in so many seconds; so many sessions of a client at once."""
    messages = rule("messages", mail(), limits=(f"{MESSAGES}/{MESSAGES_SECONDS}s",))
    sessions = Rule(
        name="sessions",
        stage=connect().stage,
        key=(Dimension.IP,),
        count=Metric.CONCURRENT,
        limits=(Limit(SESSIONS, Window(LEASE_SECONDS)),),
        action=Action.TEMPFAIL,
    )
    return messages, sessions


def fleet_engine(store: RedisStore) -> Engine:
    """An engine with these rules that counts nothing else."""
    return Engine(policy=Policy(rules=fleet_rules(), tracked=frozenset()), store=store)


def event_of(kind: str, name: str) -> Event:
    """The event of a line."""
    session = Session(id=name, client=CLIENT)
    return Connect(session=session) if kind == "connect" else Mail(session=session, sender=name)


async def told(engine: Engine, kind: str, name: str) -> tuple[str, int, float]:
    """What an engine says to a line."""
    verdict = await engine.judge(event_of(kind, name))
    count = verdict.deciding.reading.count if verdict.deciding else 0
    return str(verdict.action), count, verdict.retry_after_seconds


async def main(url: str, prefix: str) -> None:
    store = RedisStore(url, prefix=prefix, deadline_seconds=5.0)
    engine = fleet_engine(store)
    print(json.dumps(await store.ping()), flush=True)  # noqa: T201 - this is how it answers
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await told(engine, *line.split())), flush=True)  # noqa: T201 - this is how it answers
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
