"""What the rules cost: evaluation of the default policy, without any I/O.

    python -m benchmarks.policy [--json] [--quick]

A session of one user and one of a stranger go through all stages. For each event is timed what the rules take: what
they ask about it and what the answer means (reputation, counts, ages), which conditions hold, which counters are
touched, limits that follow reputation, and the verdict out of the store's answer. The answers are the reference
store's, given beforehand. Entities, the register and the store are `benchmarks.profile`'s and `benchmarks.judge`'s.

* ``us_per_event``: the mean over all stages; a message with one recipient is MAIL, RCPT, DATA after CONNECT, HELO.
* ``us_STAGE``: of one stage, the dearer of the two sessions.
* ``rules``: how many there are.
"""

import asyncio
import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from benchmarks.report import Report, at_most, main
from reputation.adaptive import adapted
from reputation.charges import Answer
from reputation.config import Settings
from reputation.config_files import load, policies_path
from reputation.events import Connect, Data, Event, Helo, Mail, Rcpt, Session
from reputation.inquiry import charges_of, known_of
from reputation.keys import entities_of
from reputation.opinions import refusal_among, with_opinions
from reputation.policy import Policy
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Verdict
from reputation.vocabulary import Moment

NOW = 1_790_000_000.0
US_PER_EVENT = 100.0
SPELLING = Spelling()


@dataclass(frozen=True, slots=True)
class Case:
    """One event, and what is known about it."""

    moment: Moment
    read: Answer
    """What the store says to the rules' inquiry."""
    answer: Answer


def measure(report: Report) -> None:
    """The benchmark."""
    rounds, runs = (3, 50) if report.quick else (15, 2_000)
    settings: Settings = load(policies_path() / "default.toml")
    policy = settings.policy()
    sessions = [asyncio.run(cases(policy, events(user))) for user in ("alice", "")]
    dearest: dict[str, float] = {}
    for case in (case for session in sessions for case in session):
        taken = microseconds(partial(judged, policy, case), rounds, runs)
        stage = case.moment.event.stage.value
        dearest[stage] = max(taken, dearest.get(stage, 0.0))
        report.calibration.python()
    whole = [
        microseconds(partial(session_judged, policy, session), rounds, runs) / len(session) for session in sessions
    ]
    report.add("us_per_event", max(whole), "us of this process, rules only", at_most(US_PER_EVENT))
    for stage, taken in dearest.items():
        report.add(f"us_{stage}", taken, "us of this process, rules only")
    report.add("rules", len(policy.rules), "rules of the default policy")


def microseconds(work: Callable[[], object], rounds: int, runs: int) -> float:
    """The median over the rounds, for one run."""
    return statistics.median(seconds / runs * 1e6 for seconds in timeit.repeat(work, repeat=rounds, number=runs))


def events(user: str) -> list[Event]:
    """A message with one recipient, from the greeting on."""
    session = Session(id="s1", client=ip_address("192.0.2.7"), helo="mail.example.com", user=user)
    sender, recipient = "alice@example.com", "bob@example.net"
    header = {"from": "Alice <alice@example.com>", "subject": "Hello", "date": "Tue, 24 Nov 2026 15:00:00 +0000"}
    return [
        Connect(session=session),
        Helo(session=session),
        Mail(session=session, sender=sender),
        Rcpt(session=session, sender=sender, recipient=recipient),
        Data(
            session=session,
            sender=sender,
            recipients=(recipient,),
            message_bytes=2_000,
            subject="Hello",
            author=sender,
            header=header,
        ),
    ]


async def cases(policy: Policy, session: list[Event]) -> list[Case]:
    """What is known about each event, and what the store would say."""
    store, found = MemoryStore(), []
    now_us = int(NOW * 1e6)
    for event in session:
        entities = entities_of(event, SPELLING)
        inquiry = policy.inquiries[event.stage]
        read = await store.decide(charges_of(inquiry, entities, with_site=False), now_us=now_us)
        moment = Moment(event, entities, NOW, known=known_of(inquiry, entities, read, 0.2))
        answer = await store.decide(policy.charges_for(moment), now_us=now_us)
        found.append(Case(Moment(event, entities, NOW), read, answer))
    return found


def judged(policy: Policy, case: Case) -> Verdict:
    """All that the rules do about one event."""
    moment = case.moment
    if inquiry := policy.inquiries[moment.event.stage]:
        charges_of(inquiry, moment.entities, with_site=False)
        moment = moment._replace(known=known_of(inquiry, moment.entities, case.read, 0.2))
    opinions = policy.opinions_on(moment)
    if (refusal := refusal_among(opinions)) is not None:
        return with_opinions(refusal, opinions)
    adapted(policy.charges_for(moment), policy.adaptive, moment.known.scores)
    return with_opinions(policy.decide(case.answer), opinions)


def session_judged(policy: Policy, session: list[Case]) -> None:
    """All events of a session."""
    for case in session:
        judged(policy, case)


if __name__ == "__main__":
    main("policy", measure)
