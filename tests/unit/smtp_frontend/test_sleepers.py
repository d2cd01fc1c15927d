"""Sleepers: bounded in number, woken early, always counted out."""

import asyncio

from reputation.metrics import Metrics
from smtp_frontend.sleepers import Sleepers

FOR_EVER = 3_600.0


def value(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


async def test_a_sleep_ends_by_itself() -> None:
    metrics = Metrics()
    assert await Sleepers(max_sleepers=1, metrics=metrics).sleep(0.0, asyncio.Event())
    assert value(metrics, "reputon_smtp_sleepers") == 0


async def test_what_happens_meanwhile_wakes_the_sleeper() -> None:
    metrics, woken = Metrics(), asyncio.Event()
    sleeping = asyncio.create_task(Sleepers(max_sleepers=1, metrics=metrics).sleep(FOR_EVER, woken))
    await asyncio.sleep(0)
    assert value(metrics, "reputon_smtp_sleepers") == 1
    woken.set()
    async with asyncio.timeout(10):
        assert await sleeping
    assert value(metrics, "reputon_smtp_sleepers") == 0


async def test_who_finds_no_place_does_not_sleep_and_is_counted() -> None:
    metrics, woken = Metrics(), asyncio.Event()
    sleepers = Sleepers(max_sleepers=2, metrics=metrics)
    sleeping = [asyncio.create_task(sleepers.sleep(FOR_EVER, woken)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not await sleepers.sleep(FOR_EVER, woken)
    assert value(metrics, "reputon_smtp_sleepers_refused_total") == 1
    woken.set()
    assert await asyncio.gather(*sleeping) == [True, True]
    assert await sleepers.sleep(0.0, asyncio.Event())  # there is room again
    assert value(metrics, "reputon_smtp_sleepers_refused_total") == 1


async def test_nobody_sleeps_where_nobody_may() -> None:
    assert not await Sleepers(max_sleepers=0, metrics=Metrics()).sleep(FOR_EVER, asyncio.Event())


async def test_a_sleeper_that_is_cancelled_leaves_its_place() -> None:
    metrics = Metrics()
    sleepers = Sleepers(max_sleepers=1, metrics=metrics)
    sleeping = asyncio.create_task(sleepers.sleep(FOR_EVER, asyncio.Event()))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    assert sleeping.cancelled()
    assert value(metrics, "reputon_smtp_sleepers") == 0
    assert await sleepers.sleep(0.0, asyncio.Event())
