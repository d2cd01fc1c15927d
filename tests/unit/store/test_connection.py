"""The line of a connection, fed with bytes: who gets which reply, and who hears what when none comes.

No server takes part: a transport that only remembers stands for one. Real ones: tests/cluster/test_line.py.
"""

import asyncio
import time
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.errors import StoreUnavailable
from reputation.store import connection as module
from reputation.store.connection import MAX_WAITING, Call, Connection, Reply, packed

AMPLE_SECONDS = 60.0
MOMENT_SECONDS = 0.02
LATE = "no reply within the deadline"


class Wire(asyncio.Transport):
    """What was written, and whether it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Line:
    """A connection on such a wire."""

    def __init__(self) -> None:
        self.losses: list[Connection] = []
        self.wire = Wire()
        self.connection = Connection(self.losses.append)
        self.connection.connection_made(self.wire)

    def call(self, *words: str, seconds: float = AMPLE_SECONDS) -> "asyncio.Future[list[Reply]]":
        """Send one command; its reply."""
        loop = asyncio.get_running_loop()
        call = Call(loop, 1, loop.time() + seconds)
        self.connection.send(packed(*words), call, 0)
        return call.future

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)


@pytest.fixture
async def line() -> Line:
    return Line()


async def outcome(future: "asyncio.Future[list[Reply]]") -> Reply:
    """What a caller heard: the reply, or the text of an error."""
    [reply] = await asyncio.wait_for(future, 5)
    return str(reply) if isinstance(reply, Exception) else reply


async def turn() -> None:
    """Let the event loop go round once."""
    await asyncio.sleep(0)


# Replies


async def test_replies_come_in_order_however_they_are_cut(line: Line) -> None:
    calls = [line.call("GET", str(number)) for number in range(5)]
    for byte in b"$1\r\na\r\n:7\r\n*2\r\n:1\r\n$-1\r\n+OK\r\n-ERR no\r\n":
        line.feed(bytes([byte]))
    assert [await outcome(call) for call in calls] == [b"a", 7, [1, None], b"OK", "ERR no"]


async def test_what_is_sent_in_one_turn_is_one_write(line: Line) -> None:
    for word in ("A", "B", "C"):
        line.call(word)
    await turn()
    line.call("D")
    await turn()
    assert line.wire.written == [packed("A") + packed("B") + packed("C"), packed("D")]


async def test_an_error_reply_is_a_value_and_closes_nothing(line: Line) -> None:
    call = line.call("GET")
    line.feed(b"-MOVED 1 127.0.0.1:1\r\n")
    [reply] = await call
    assert isinstance(reply, hiredis.ReplyError)
    assert not line.connection.lost


async def test_replies_of_one_call_on_two_connections_stay_in_their_places(line: Line) -> None:
    other, loop = Line(), asyncio.get_running_loop()
    call = Call(loop, 3, loop.time() + AMPLE_SECONDS)
    for position, connection in enumerate((line.connection, other.connection, line.connection)):
        connection.send(packed("GET"), call, position)
    line.feed(b":0\r\n:2\r\n")
    assert not call.future.done()
    other.feed(b":1\r\n")
    assert await call.future == [0, 1, 2]


async def test_the_reply_of_a_cancelled_caller_reaches_nobody(line: Line) -> None:
    first, second, third = (line.call("GET") for _ in range(3))
    second.cancel()
    line.feed(b":1\r\n:2\r\n:3\r\n")
    assert [await outcome(first), await outcome(third)] == [1, 3]
    assert second.cancelled()


@given(st.data())
def test_nobody_gets_the_reply_of_another(data: st.DataObject) -> None:
    """Callers come, are cancelled and are answered in any order, in any pieces."""
    asyncio.run(_mixed_up(data))


async def _mixed_up(data: st.DataObject) -> None:
    line, calls, owed = Line(), list["asyncio.Future[list[Reply]]"](), b""
    for step in data.draw(st.lists(st.sampled_from(["send", "cancel", "feed", "turn"]), max_size=40)):
        if step == "send":
            owed += b":%d\r\n" % len(calls)
            calls.append(line.call("GET", str(len(calls))))
        elif step == "cancel" and calls:
            data.draw(st.sampled_from(calls)).cancel()
        elif step == "feed":
            size = data.draw(st.integers(0, len(owed)))
            line.feed(owed[:size])
            owed = owed[size:]
        else:
            await turn()
    line.feed(owed)
    for number, call in enumerate(calls):
        assert call.cancelled() or await call == [number]
    assert not line.connection.lost
    line.connection.close()


# The line's end


async def test_a_full_line_refuses_at_once_and_sends_nothing(line: Line) -> None:
    calls = [line.call("GET") for _ in range(MAX_WAITING)]
    with pytest.raises(StoreUnavailable, match=r"8192 calls are waiting already"):
        line.call("GET")
    line.feed(b":1\r\n")
    line.call("LATER")
    await turn()
    assert b"".join(line.wire.written) == packed("GET") * MAX_WAITING + packed("LATER")
    assert await outcome(calls[0]) == 1
    line.connection.close()


async def test_cancelled_callers_keep_their_place_so_the_line_stays_bounded(line: Line) -> None:
    for _ in range(MAX_WAITING):
        line.call("GET").cancel()
    with pytest.raises(StoreUnavailable, match="waiting already"):
        line.call("GET")
    line.connection.close()


# Deadlines


async def test_whoever_is_overdue_hears_so_and_his_reply_reaches_nobody(line: Line) -> None:
    late = line.call("GET", seconds=MOMENT_SECONDS)
    assert await outcome(late) == LATE
    with pytest.raises(StoreUnavailable, match="the server is overdue"):
        line.call("GET")
    line.feed(b":1\r\n")
    after = line.call("GET")
    line.feed(b":2\r\n")
    assert await outcome(after) == 2
    assert not line.losses


async def test_the_breaker_stays_open_until_nobody_is_overdue(line: Line) -> None:
    calls = [line.call("GET", seconds=MOMENT_SECONDS) for _ in range(2)]
    assert [await outcome(call) for call in calls] == [LATE, LATE]
    line.feed(b":1\r\n")
    with pytest.raises(StoreUnavailable, match="overdue"):
        line.call("GET")
    line.feed(b":2\r\n")
    line.call("GET")
    line.connection.close()


async def test_a_patient_caller_in_front_keeps_nobody_waiting(line: Line) -> None:
    """Administration waits for seconds, in the same line as mail, which does not."""
    patient = line.call("SERIES", seconds=AMPLE_SECONDS)
    hasty = line.call("FCALL", seconds=MOMENT_SECONDS)
    assert await outcome(hasty) == LATE
    with pytest.raises(StoreUnavailable, match="overdue"):
        line.call("FCALL", seconds=MOMENT_SECONDS)
    line.feed(b":1\r\n:2\r\n")
    assert await outcome(patient) == 1
    line.call("FCALL")
    line.connection.close()


async def test_a_reply_that_was_there_in_time_counts_however_late_it_is_read(line: Line) -> None:
    """The event loop reads before it looks at its timers."""
    call = line.call("GET", seconds=MOMENT_SECONDS)
    await turn()
    asyncio.get_running_loop().call_soon(line.feed, b":1\r\n")
    time.sleep(2 * MOMENT_SECONDS)  # noqa: ASYNC251 - this process is busy
    assert await outcome(call) == 1


async def test_a_busy_process_is_no_slow_server(line: Line) -> None:
    """What it had no time to write, the server cannot have answered: the time begins with the writing."""
    call = line.call("GET", seconds=MOMENT_SECONDS)
    time.sleep(3 * MOMENT_SECONDS)  # noqa: ASYNC251 - this process is busy
    await turn()
    await turn()
    assert line.wire.written
    line.call("GET")
    line.feed(b":1\r\n:2\r\n")
    assert await outcome(call) == 1


async def test_a_server_that_owes_a_reply_for_too_long_is_given_up(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 2 * MOMENT_SECONDS)
    patient = line.call("GET", seconds=AMPLE_SECONDS)
    assert await outcome(line.call("GET", seconds=MOMENT_SECONDS)) == LATE
    assert await outcome(patient) == "connection lost: no reply for 0.04 s"
    assert line.wire.aborted
    assert line.losses == [line.connection]


# The end


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n", b"\x00\x01", b"*1\r\n*-5\r\n", b":1\r\n:2\r\n:3\r\n"]
)
async def test_nonsense_or_more_replies_than_calls_end_it_for_everybody(line: Line, garbage: bytes) -> None:
    calls = [line.call("GET"), line.call("GET")]
    line.feed(garbage)
    if garbage != b":1\r\n:2\r\n:3\r\n":
        for call in calls:
            assert str(await outcome(call)).startswith("connection lost: the server talks nonsense")
    assert line.wire.aborted
    assert line.losses == [line.connection]
    with pytest.raises(StoreUnavailable, match="nonsense"):
        line.call("GET")


async def test_when_the_server_hangs_up_everybody_is_told_once(line: Line) -> None:
    calls = [line.call("GET"), line.call("GET")]
    line.feed(b":1\r\n")
    line.connection.connection_lost(ConnectionResetError("reset by peer"))
    line.connection.connection_lost(None)
    line.connection.close()
    assert [await outcome(call) for call in calls] == [1, "connection lost: reset by peer"]
    assert line.losses == [line.connection]


async def test_asking_raises_what_its_commands_met(line: Line) -> None:
    asking = asyncio.create_task(line.connection.ask([packed("A"), packed("B")], MOMENT_SECONDS))
    await turn()
    line.feed(b":1\r\n")
    with pytest.raises(StoreUnavailable, match=LATE):
        await asking
    line.feed(b":2\r\n")
    asking = asyncio.create_task(line.connection.ask([packed("A"), packed("B")], AMPLE_SECONDS))
    await turn()
    line.feed(b":3\r\n+OK\r\n")
    assert await asking == [3, b"OK"]
