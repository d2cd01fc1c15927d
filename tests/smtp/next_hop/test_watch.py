"""A next hop that is away: one session finds out, and all are told."""

import asyncio
import logging

import pytest

from reputation.clock import ManualClock
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.next_hop.watch import HopWatch
from smtp_frontend.next_hop.wire import HopRefuses, HopUnreachable
from smtp_frontend.rehearsal.next_hop import HANG, ScriptedHop
from tests.smtp.next_hop.conftest import HOSTNAME, PATIENT_SECONDS, open_patiently

ALICE = "alice@example.org"
URL = "smtp://hop.example.com"


def watch_and_clock() -> tuple[HopWatch, ManualClock]:
    clock = ManualClock(100.0)
    return HopWatch(URL, pause_seconds=1.0, clock=clock), clock


def fails(watch: HopWatch) -> None:
    with pytest.raises(HopUnreachable, match="no answer"), watch.attempt():
        raise HopUnreachable("no answer")


def is_told(watch: HopWatch) -> None:
    with pytest.raises(HopUnreachable, match="is away"), watch.attempt():
        pytest.fail("it was tried")


def test_after_a_failure_nobody_tries_for_a_while() -> None:
    watch, clock = watch_and_clock()
    fails(watch)
    for _ in range(3):
        is_told(watch)
        clock.advance(0.3)
    clock.advance(0.2)
    fails(watch)
    is_told(watch)
    clock.advance(1.0)
    for _ in range(3):
        with watch.attempt():
            pass


def test_one_at_a_time_finds_out_whether_it_is_back() -> None:
    watch, clock = watch_and_clock()
    fails(watch)
    clock.advance(60.0)
    with watch.attempt():
        is_told(watch)
        is_told(watch)
    with watch.attempt(), watch.attempt():
        pass


def test_a_probe_that_was_given_up_leaves_its_place_to_the_next() -> None:
    watch, clock = watch_and_clock()
    fails(watch)
    clock.advance(1.0)
    with pytest.raises(asyncio.CancelledError), watch.attempt():
        raise asyncio.CancelledError
    fails(watch)


def test_who_was_under_way_when_it_went_away_is_no_probe() -> None:
    watch, clock = watch_and_clock()
    slow, probe = watch.attempt(), watch.attempt()
    slow.__enter__()
    fails(watch)
    clock.advance(1.0)
    probe.__enter__()
    assert not slow.__exit__(HopUnreachable, HopUnreachable("slow"), None)
    clock.advance(1.0)
    is_told(watch)  # the probe is still under way
    assert not probe.__exit__(HopUnreachable, HopUnreachable("no answer"), None)
    clock.advance(1.0)
    fails(watch)


def test_a_connection_that_was_under_way_shows_that_it_is_there() -> None:
    watch, _ = watch_and_clock()
    with watch.attempt():
        fails(watch)
        is_told(watch)
    with watch.attempt():
        pass


def test_a_server_that_refuses_us_is_there() -> None:
    watch, clock = watch_and_clock()
    for _ in range(3):
        with pytest.raises(HopRefuses), watch.attempt():
            raise HopRefuses("too many connections")
    fails(watch)
    clock.advance(1.0)
    with pytest.raises(HopRefuses), watch.attempt():
        raise HopRefuses("too many connections")
    with watch.attempt():
        pass


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch, clock = watch_and_clock()
    for _ in range(5):
        fails(watch)
        is_told(watch)
        clock.advance(1.5)
    for _ in range(3):
        with watch.attempt():
            pass
    assert caplog.record_tuples == [
        ("reputon.next_hop", logging.WARNING, f"{URL}: away: no answer"),
        ("reputon.next_hop", logging.WARNING, f"{URL}: back after 7.5 s, 10 transactions were put off"),
    ]


async def test_many_sessions_wait_for_one(caplog: pytest.LogCaptureFixture) -> None:
    """The server takes connections and says nothing; only the first session finds that out by waiting."""
    async with ScriptedHop({"connect": [HANG]}) as hop:
        next_hop = open_next_hop(hop.url, hostname=HOSTNAME, timeout_seconds=0.2, pause_seconds=60)
        connections = [next_hop.connect() for _ in range(100)]
        assert (await connections[0].mail(ALICE)).enhanced == "4.4.1"
        begun = asyncio.get_running_loop().time()
        answers = [await connection.mail(ALICE) for connection in connections]
        assert {(answer.code, answer.enhanced, answer.ours) for answer in answers} == {(451, "4.4.1", True)}
        assert asyncio.get_running_loop().time() - begun < PATIENT_SECONDS
        assert len(hop.sessions) == 1
    assert [record.message for record in caplog.records] == [f"{hop.url}: away: does not answer within 0.2 s"]


async def test_it_comes_back_for_all_sessions(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedHop({"EHLO": [b"garbage\r\n"]}) as hop:
        next_hop = open_patiently(hop.url)
        first, second = next_hop.connect(), next_hop.connect()
        assert (await first.mail(ALICE)).enhanced == "4.4.1"
        assert (await second.mail(ALICE)).positive
        assert (await first.mail(ALICE)).positive
        await first.close()
        await second.close()
    away, back = (record.message for record in caplog.records)
    assert away.startswith(f"{hop.url}: away: ")
    assert back.endswith(", 1 transactions were put off")


async def test_a_connection_that_lives_is_not_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    """While no new connection can be made, a session that has one goes on."""
    async with ScriptedHop() as hop:
        next_hop = open_next_hop(hop.url, hostname=HOSTNAME, timeout_seconds=PATIENT_SECONDS, pause_seconds=60)
        lives, comes_late = next_hop.connect(), next_hop.connect()
        assert (await lives.mail(ALICE)).positive
        hop.stop_listening()
        assert (await comes_late.mail(ALICE)).enhanced == "4.4.1"
        await lives.reset()
        assert (await lives.mail(ALICE)).positive
        await lives.close()
    assert len(caplog.records) == 1
