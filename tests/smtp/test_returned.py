"""Reports of failed delivery on their way through: what is learned of them, and when."""

from typing import Any

import pytest

from reputation.events import Outcome, OutcomeKind
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop


def report(*recipients: str, status: str = "5.1.1", action: str = "failed") -> bytes:
    groups = [f"Final-Recipient: rfc822; {each}\nAction: {action}\nStatus: {status}\n" for each in recipients]
    text = (
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n--b\n\nIt failed.\n--b\n'
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n"
        + "\n".join(groups)
        + "\n--b--\n"
    )
    return text.replace("\n", "\r\n").encode()


@pytest.fixture
def learned(mx: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """All that the engine has been told."""
    outcomes: list[Outcome] = []
    learn = mx.engine.learn

    async def note(outcome: Outcome) -> None:
        outcomes.append(outcome)
        await learn(outcome)

    monkeypatch.setattr(mx.engine, "learn", note)
    return outcomes


async def sent(mx: FrontEnd, content: bytes, *recipients: str, sender: str = "") -> int:
    """Send a message, and wait until the session is over; the code of the answer."""
    async with mx.client() as client:
        await client.begin(*recipients or ("alice@example.net",), sender=sender)
        code = (await client.message(content)).code
    await mx.nobody_left()
    return code


async def test_who_has_not_got_it_is_learned_for_whom_the_report_is_to(mx: FrontEnd, learned: list[Outcome]) -> None:
    assert await sent(mx, report("gone@example.org", "full@example.org")) == 250
    assert [(each.kind, each.returned) for each in learned] == [
        (OutcomeKind.BOUNCE, ("alice@example.net", "gone@example.org")),
        (OutcomeKind.BOUNCE, ("alice@example.net", "full@example.org")),
    ]


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (report("gone@example.org"), {"sender": "somebody@example.org"}),
        (report("gone@example.org", status="4.4.1", action="delayed"), {}),
        (report(), {}),
        (b"Subject: hello\r\n\r\n" + report("gone@example.org"), {}),
    ],
)
async def test_other_mail_is_no_report(
    content: bytes, more: dict[str, Any], mx: FrontEnd, learned: list[Outcome]
) -> None:
    assert await sent(mx, content, **more) == 250
    assert learned == []


async def test_a_report_to_several_says_nothing_about_any_of_them(mx: FrontEnd, learned: list[Outcome]) -> None:
    assert await sent(mx, report("gone@example.org"), "alice@example.net", "bob@example.net") == 250
    assert learned == []


@pytest.mark.parametrize("answer", ["550 5.7.1 no", "450 4.2.1 later"])
async def test_a_report_that_was_not_taken_says_nothing(
    answer: str, hop: ScriptedHop, mx: FrontEnd, learned: list[Outcome]
) -> None:
    hop.script["end"] = answer
    assert await sent(mx, report("gone@example.org")) == int(answer[:3])
    assert learned == []


async def test_a_report_that_cannot_be_learned_was_taken_all_the_same(
    hop: ScriptedHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another answer would have it sent once more."""

    async def fail(outcome: Outcome) -> None:
        raise RuntimeError("a bug")

    async with front_end(next_hop=hop.url) as mx, mx.client() as client:
        monkeypatch.setattr(mx.engine, "learn", fail)
        await client.begin("alice@example.net", sender="")
        assert (await client.message(report("gone@example.org"))).code == 250
        assert (await client.ask("NOOP")).code == 250
        await until(lambda: mx.metric("reputon_smtp_errors_total") == 1, "the error is counted")
        assert len(mx.log.traces) == 1
    assert len(hop.messages) == 1
