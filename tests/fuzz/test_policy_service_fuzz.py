"""Any octets to the policy service, in any packets. What must hold whatever they are:

1. Each answer is a legal one, or the connection is closed; there are no more answers than questions.
2. No connection ends in a traceback, and none of our own errors is counted.
3. It does not matter how the octets are cut into packets.
4. What is kept stays within its bounds.

`REPUTON_FUZZ_EXAMPLES=20000` goes on longer.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtp_frontend.policy_service.connection import FULL_BYTES, READ_BYTES
from smtp_frontend.policy_service.requests import State
from smtp_frontend.policy_service.visits import MAX_PLACES, MAX_REMEMBERED, MAX_VISITS
from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS, until
from tests.policy_service.asking import Asked, policy_service

EXAMPLES = int(os.environ.get("REPUTON_FUZZ_EXAMPLES", "200"))
RULES = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["3/1h"]
action = "tempfail"
reply = "Slow down, {entity}"
[[rule]]
name = "recipient-rate"
stage = "rcpt"
key = ["recipient"]
count = "recipients"
limits = ["3/1h"]
action = "discard"
[[rule]]
name = "helo-rate"
stage = "helo"
key = ["helo"]
count = "connections"
limits = ["20/1h"]
action = "tag"
[[rule]]
name = "size"
stage = "data"
key = ["ip"]
count = "bytes"
limits = ["100000/1h"]
action = "reject"
"""
LEGAL = re.compile(rb"(?:action=(?:DUNNO|DISCARD|PREPEND|DEFER_IF_PERMIT|[45]\d\d)(?: [\x20-\x7e]*)?\n\n)*")

octets = st.binary(max_size=40).filter(lambda value: b"\n" not in value)
words = st.sampled_from([b"", b"alice@example.com", b"bob@example.net", b"a b\\", "é@ü.example".encode(), b"x" * 300])
values: dict[bytes, st.SearchStrategy[bytes]] = {
    b"protocol_state": st.sampled_from([state.encode() for state in State] + [b"", b"rcpt"]),
    b"client_address": st.sampled_from([b"192.0.2.7", b"2001:db8::7", b"unknown", b"", b"999.1.1.1"]),
    b"client_port": st.sampled_from([b"", b"4000", b"4001"]),
    b"instance": st.sampled_from([b"", b"a.1.1.0", b"a.1.1.1", b"a.1.2.0", b"b.1.1.0", b"other", b"1.2.3.4.5"]),
    b"size": st.sampled_from([b"", b"0", b"123", b"-1", b"9" * 18, b"9" * 19, "٣".encode()]),
    b"recipient_count": st.sampled_from([b"0", b"1", b"2", b"x"]),
    **dict.fromkeys((b"sender", b"recipient", b"helo_name", b"sasl_username", b"queue_id"), words | octets),
    b"encryption_protocol": words,
    b"server_address": words,
}
attribute = st.one_of(*(st.builds(b"%b=%b".__mod__, st.tuples(st.just(name), each)) for name, each in values.items()))
questions = st.lists(attribute, max_size=14).map(
    lambda each: b"\n".join([b"request=smtpd_access_policy", *each, b"\n"])
)
broken = st.binary(max_size=200) | st.sampled_from([b"\n", b"\0", b"request=other\n\n", b"x" * 9_000, b"a=b\n" * 200])
conversations = st.lists(questions | questions | questions | broken, max_size=8).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=4_000), max_size=6)


class House:
    """The service on an event loop of its own, and a mail server that says anything."""

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.service: Asked = self._runner.run(self._stack.enter_async_context(policy_service(RULES, instant=True)))
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def hold(self, octets: bytes, at: Sequence[int]) -> None:
        """Say some octets in one packet, and cut into packets; hold what comes of it against the invariant."""
        whole, pieces = self._runner.run(self._said(octets, ())), self._runner.run(self._said(octets, at))
        for answers, _ in (whole, pieces):
            assert LEGAL.fullmatch(answers), answers
            assert answers.count(b"action=") <= octets.count(b"\n\n")
        # A connection that is closed while octets wait is reset, and with it go answers that were under way.
        if not whole[1] and not pieces[1]:
            assert whole[0].count(b"action=") == pieces[0].count(b"action="), "another packet, another answer"
        service = self.service
        assert not service.log.traces, service.log.traces
        assert service.metric("reputon_smtp_errors_total") == 0
        visits = service.service._visits
        assert len(visits) <= MAX_VISITS and visits.remembered <= MAX_REMEMBERED and len(visits._places) <= MAX_PLACES
        assert visits.remembered == sum(
            len(visit.transaction.recipients) for visit in visits._visits.values() if visit.transaction is not None
        )
        service.log.records.clear()

    async def _said(self, octets: bytes, at: Sequence[int]) -> tuple[bytes, bool]:
        """What is answered, and whether the connection was reset."""
        answers, was_reset = bytearray(), False
        async with self.service.line() as line, asyncio.timeout(PATIENCE_SECONDS):
            marks = sorted({0, len(octets), *(cut for cut in at if cut < len(octets))})
            try:
                for start, end in pairwise(marks):
                    line.writer.write(octets[start:end])
                    await line.writer.drain()
                    await asyncio.sleep(0)
                    for connection in self.service.service.connections:
                        assert len(connection._decoder) <= FULL_BYTES + READ_BYTES
                line.writer.write_eof()
            except OSError:
                was_reset = True
            try:
                while some := await line.reader.read(65_536):
                    answers += some
            except ConnectionError:
                was_reset = True
        await until(lambda: not self.service.service.connections, "the connection is forgotten")
        return bytes(answers), was_reset


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house


WHOLE = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.7\ninstance=a.1.1.0\nrecipient=a@b\n\n"
)


@given(octets=conversations, at=cuts)
@example(octets=WHOLE * 3, at=[1, 2, 3])
@example(octets=WHOLE + b"\n" + WHOLE, at=[len(WHOLE)])
@example(octets=WHOLE + WHOLE.replace(b"RCPT", b"END-OF-MESSAGE") + WHOLE.replace(b"a.1.1.0", b"a.1.1.1"), at=[50])
@example(octets=WHOLE.replace(b"a@b", b"\xff\xfe@\xf0"), at=[])
@example(octets=b"request=smtpd_access_policy\n" + b"x" * 70_000, at=[8_000, 9_000])
@settings(max_examples=EXAMPLES, deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
def test_the_invariant_holds(house: House, octets: bytes, at: list[int]) -> None:
    house.hold(octets, at)


@pytest.mark.parametrize("answers", [b"action=OK\n\n", b"action=DUNNO\n", b"action=451 \xff\n\n", b"DUNNO\n\n"])
def test_an_illegal_answer_is_found(answers: bytes) -> None:
    assert LEGAL.fullmatch(answers) is None
