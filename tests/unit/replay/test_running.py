"""Logs through the real policy: the figures are held against plain lists of times."""

import asyncio
from collections import defaultdict, deque
from dataclasses import replace
from random import Random

import pytest

from reputation.charges import Charging
from reputation.events import Stage
from reputation.keys import Dimension, Entity, Metric
from reputation.policy import Policy
from reputation.replay import judging, running
from reputation.replay.figures import Tally
from reputation.rules import Accuracy, Mode, Rule
from reputation.spelling import Spelling
from reputation.store.states import Rings
from reputation.verdict import Action, Verdict
from reputation.windows import Window
from tests.builders import auth, connect, data, mail, rcpt, rule
from tests.unit.replay.logs_for_tests import PostfixLog, replayed, us
from tests.unit.replay.test_flow import ours

ALICE = Entity("sender", "a@example.com")


def admitted(times: list[float], limit: int, seconds: float) -> tuple[int, int]:
    """(admitted, refused) under an exact sliding window over what is admitted."""
    window: deque[float] = deque()
    refused = 0
    for time in times:
        while window and window[0] <= time - seconds:
            window.popleft()
        if len(window) < limit:
            window.append(time)
        else:
            refused += 1
    return len(times) - refused, refused


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
def test_hits_are_those_of_a_plain_list_of_times(mode: Mode) -> None:
    random, log, sent = Random(7), PostfixLog(), defaultdict[str, list[float]](list)
    for second in sorted(random.randrange(3_600) for _ in range(400)):
        sender = random.choice(["a@example.com", "b@example.com", "c@example.com"])
        sent[sender].append(second)
        log.message(second, sender, "x@example.net")
    exact = rule("r", limits=("5/1m",), mode=mode, accuracy=Accuracy.INTERPOLATED)
    tally = replayed(log.lines, exact).rules["r"]
    wanted = {sender: admitted(times, 5, 60)[1] for sender, times in sent.items()}
    assert {entity.id: hits.hits for entity, hits in tally.entities.items()} == {k: v for k, v in wanted.items() if v}
    assert tally.total.hits == tally.messages == tally.false_positives == sum(wanted.values()) > 10
    assert tally.judged == 400


def test_the_report_says_whom_and_since_when() -> None:
    log = PostfixLog()
    for second in range(10):
        log.message(second, "a@example.com", "x@example.net", user="alice", client="192.0.2.7")
    for second in range(20, 25):
        log.message(second, "b@example.com", "x@example.net", user="alice", client="192.0.2.8")
    tally = replayed(log.lines, rule("r", limits=("3/1h",))).rules["r"]
    (first, hits), (second_one, fewer) = tally.top(5)
    assert (first, hits.hits, hits.delivered, hits.first_us, hits.last_us) == (ALICE, 7, 7, us(12, 0, 3), us(12, 0, 9))
    assert (second_one.id, fewer.hits) == ("b@example.com", 2)
    assert {dimension: len(values) for dimension, values in tally.spread.items()} == {"sender": 2, "user": 1, "ip": 2}


def test_what_was_refused_is_not_counted_further_in_force_nor_in_shadow() -> None:
    log = PostfixLog()
    for minute in range(10):
        for second in range(4):
            log.message(60 * minute + second, "a@example.com", "x@example.net")
    limits = {"limits": ("2/1m",), "accuracy": Accuracy.INTERPOLATED}
    for mode in Mode:
        assert replayed(log.lines, rule("r", mode=mode, **limits)).rules["r"].total.hits == 20  # type: ignore[arg-type]  # builder's words
    attempts = rule("r", charge=Charging.ALWAYS, **limits)  # type: ignore[arg-type]  # builder's words
    assert replayed(log.lines, attempts).rules["r"].total.hits == 38


def test_two_rules_are_both_heard_when_both_are_over() -> None:
    log = PostfixLog()
    for second in range(6):
        log.message(second, "a@example.com", "x@example.net")
    rules = (rule("one", limits=("2/1h",)), rule("two", limits=("2/1h",), key=(Dimension.IP,), action=Action.REJECT))
    figures = replayed(log.lines, *rules)
    assert [figures.rules[name].total.hits for name in ("one", "two")] == [4, 4]


def test_a_message_that_was_refused_at_mail_has_no_recipients() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net", "y@example.net")
    by_recipient = rule("rcpt", rcpt("x"), limits=("100/1h",), count=Metric.RECIPIENTS)
    at_data = rule("data", data("x"), limits=("100/1h",))
    figures = replayed(log.lines, rule("r", limits=("1/1h",)), by_recipient, at_data)
    assert (figures.rules["rcpt"].judged, figures.rules["data"].judged) == (2, 1)


def test_a_message_all_of_whose_recipients_were_refused_does_not_come_to_data() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net")
    limited = rule("rcpt", rcpt("x"), limits=("1/1h",), count=Metric.RECIPIENTS)
    messages = rule("mail", limits=("2/1h",), mode=Mode.SHADOW)
    figures = replayed(log.lines, limited, messages, rule("data", data("x"), limits=("9/1h",)))
    assert figures.rules["rcpt"].total.hits == 3
    assert figures.rules["rcpt"].messages == 3
    assert figures.rules["data"].judged == 1
    assert figures.rules["mail"].total.hits == 0, "what came to nothing was given back"


def test_what_the_logged_server_refused_costs_nothing_and_is_no_false_positive() -> None:
    log = PostfixLog()
    for second in range(0, 20, 2):
        pid = log.connect(second)
        log.refuse(second, pid, "a@example.com", "nobody@example.net")
        log.disconnect(second + 1, pid)
    for second in range(100, 106):
        log.message(second, "a@example.com", "x@example.net", unknown=["nobody@example.net"])
    figures = replayed(
        log.lines, rule("r", limits=("5/1h",)), rule("n", rcpt("x"), limits=("5/1h",), count="recipients")
    )
    assert figures.given_back == 10
    assert (figures.rules["r"].total.hits, figures.rules["r"].false_positives) == (1, 1)
    assert figures.rules["n"].total.hits == 0


def test_unknown_recipients_bounces_and_failed_log_ins_are_learned() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    for number in range(5):
        log.refuse(number, pid, "a@example.com", f"x{number}@example.net")
        log.write(number, f"smtpd[{pid}]", "warning: x[192.0.2.7]: SASL LOGIN authentication failed: x")
    for _ in range(4):
        log.message(20, "b@example.com", "x@example.net", status="bounced")
    rules = (
        rule("harvest", rcpt("x"), key=(Dimension.IP,), count=Metric.INVALID_RECIPIENTS, limits=("3/1h",)),
        rule("guess", auth("x", success=False), key=(Dimension.IP,), count=Metric.AUTH_FAILURES, limits=("3/1h",)),
        rule("bounces", count=Metric.BOUNCES, limits=("3/1h",)),
    )
    figures = replayed(log.lines, *(replace(each, mode=Mode.SHADOW) for each in rules))
    assert figures.outcomes == 5 + 5 + 4
    assert figures.rules["harvest"].total.hits == 2 + 4
    assert figures.rules["guess"].total.hits == 2
    assert figures.rules["bounces"].total.hits == 0, "all were sent before any had come back"


def test_a_bounce_is_learned_when_it_came() -> None:
    log = PostfixLog()
    for second in range(0, 50, 10):
        log.message(second, "a@example.com", "x@example.net", status="bounced")
    assert replayed(log.lines, rule("b", count=Metric.BOUNCES, limits=("3/1h",))).rules["b"].total.hits == 2


def test_whoever_is_refused_when_connecting_sends_nothing() -> None:
    log = PostfixLog()
    for second in range(5):
        log.message(second, "a@example.com", "x@example.net")
    at_connect = rule("c", connect(), key=(Dimension.IP,), count=Metric.CONNECTIONS, limits=("2/1h",))
    figures = replayed(log.lines, at_connect, rule("m", limits=("9/1h",)))
    tally = figures.rules["c"]
    assert (tally.judged, tally.total.hits, tally.messages, tally.false_positives) == (5, 3, 3, 3)
    assert figures.rules["m"].judged == 2
    figures = replayed(log.lines, replace(at_connect, mode=Mode.SHADOW), rule("m", limits=("9/1h",)))
    assert (figures.rules["c"].total.hits, figures.rules["c"].messages) == (3, 3)
    assert figures.rules["m"].judged == 5


def test_false_positives_are_delivered_and_of_nobody_who_is_known_to_be_bad() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net", status="deferred")
        log.message(second, "b@example.com", "x@example.net", user="bob")
        log.message(second, "c@example.com", "x@example.net", client="198.51.100.9")
        log.message(second, "d@example.com", "x@example.net")
    bad = [Entity("user", "bob"), Entity("ip", "198.51.100.9"), Entity("recipient", "other@example.net")]
    tally = replayed(log.lines, rule("r", limits=("1/1h",)), known_bad=bad).rules["r"]
    assert (tally.messages, tally.false_positives, tally.known_bad) == (12, 3, 6)


def test_a_message_that_was_delivered_later_is_a_false_positive_all_the_same() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "x@example.net")
    log.message(1, "a@example.com", "x@example.net", status="deferred")
    log.message(9_000, "b@example.com", "x@example.net")
    id = f"{0x4F1A2B2:X}"
    log.write(9_100, "smtp[8]", f"{id}: to=<x@example.net>, relay=x[1.2.3.4]:25, delay=1, dsn=2.0.0, status=sent (ok)")
    log.write(9_100, "qmgr[9]", f"{id}: removed")
    assert replayed(log.lines, rule("r", limits=("1/1h",))).rules["r"].false_positives == 1


def test_who_is_watched_is_told_about_hit_or_not() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net")
    log.message(9, "b@example.com", "x@example.net")
    watched = [ALICE, Entity("sender", "b@example.com"), Entity("sender", "c@example.com")]
    found = replayed(log.lines, rule("r", limits=("1/1h",)), watched=watched).watched
    assert [each.messages for each in found.values()] == [4, 1, 0]
    assert [{name: hits.hits for name, hits in each.by_rule.items()} for each in found.values()] == [{"r": 3}, {}, {}]


def test_tags_are_hits_that_cost_nobody_a_message() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net")
    figures = replayed(
        log.lines, rule("r", limits=("1/1h",), action=Action.TAG), rule("m", data("x"), limits=("9/1h",))
    )
    assert (figures.rules["r"].total.hits, figures.rules["m"].judged) == (3, 4)


def test_rules_without_limits_are_told_by_who_sent() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com" if second else "", "x@example.net")
    bounces = Rule(name="r", stage=Stage.MAIL, when='class == "bounce"', action=Action.REJECT)
    tally = replayed(log.lines, bounces).rules["r"]
    assert (tally.total.hits, tally.messages) == (1, 1)
    assert [str(entity) for entity, _ in tally.top(5)] == ["ip:192.0.2.7"]


def test_discarded_mail_goes_on_as_the_front_end_has_it() -> None:
    log = PostfixLog()
    for second in range(4):
        log.message(second, "a@example.com", "x@example.net")
    dropped = rule("r", limits=("1/1h",), action=Action.DISCARD)
    figures = replayed(log.lines, dropped, rule("n", rcpt("x"), limits=("9/1h",), count=Metric.RECIPIENTS))
    assert (figures.rules["r"].total.hits, figures.rules["n"].judged) == (3, 4)


def test_sessions_at_the_same_time_are_told_by_their_ends() -> None:
    log = PostfixLog()
    one, _ = log.connect(0), log.connect(1)
    log.connect(2)
    log.disconnect(400, one)
    log.connect(401)
    log.connect(402)
    for second in (0, 300):
        log.message(second, "far@example.com", "x@example.net", client="198.51.100.1")
    log.lines.sort(key=lambda line: line[7:15])
    concurrent = rule("c", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("2/1m",))
    figures = replayed(log.lines, concurrent)
    assert [hits.hits for _, hits in figures.rules["c"].top(5)] == [2]
    assert figures.unjudged == {}


def test_rules_that_no_log_can_tell_about_are_named_and_not_judged() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "x@example.net")
    rules = (
        rule("by-country", key=(Dimension.COUNTRY,)),
        rule("by-asn", count="distinct(asn)", limits=("3/1h",)),
        rule("big", when="declared_bytes > 1000"),
        rule("listed", when='"vip" in lists'),
        rule("early", when="early"),
        rule("forged", when='spf != "pass"'),
        rule("filtered", data("x@example.net"), when='dmarc == "fail" || malware != ""'),
        rule("text", when='sender == "spf"'),
        rule("hello", key=(Dimension.HELO,)),
        rule("clear", when="!tls"),
        rule("never", key=(Dimension.USER,)),
    )
    assert replayed(log.lines, *rules).unjudged == {
        "by-country": "it asks for country, which no log tells",
        "by-asn": "it asks for asn, which no log tells",
        "big": "it asks for declared_bytes, which no log tells",
        "listed": "it asks for lists, which no log tells",
        "early": "it asks for early, which no log tells",
        "forged": "it asks for spf, which no log tells",
        "filtered": "it asks for dmarc, malware, which no log tells",
        "text": "no event of the log at stage mail was about sender",
        "hello": "no event of the log at stage mail was about helo",
        "clear": "the log tells no tls",
        "never": "no event of the log at stage mail was about user",
    }


def test_a_log_without_connections_or_ends_says_so() -> None:
    lines = ours(
        "verdict stage=mail action=accept reason=no-rule from=<a@example.com> client=192.0.2.1 session=s1",
        "message result=delivered id=s1.1 session=s1",
    )
    concurrent = rule("c", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("2/1m",))
    assert replayed(lines, concurrent).unjudged == {"c": "the log does not tell when a session ends"}
    exim = ["2026-11-24 12:00:00 1tFAbC-000123-AB <= a@example.com H=(x) [192.0.2.7] P=smtp S=7 for b@example.net"]
    assert replayed(exim, concurrent).unjudged == {"c": "the log tells no connections"}


def test_nothing_is_kept_of_messages_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[running.Replay] = []
    original = running.Replay.close

    def close(self: running.Replay, **given: int) -> object:
        kept.append(self)
        return original(self, **given)

    monkeypatch.setattr(running.Replay, "close", close)
    log = PostfixLog()
    for second in range(50):
        log.message(second, "a@example.com", "x@example.net", status="deferred")
    replayed(log.lines, rule("c", connect(), key=(Dimension.IP,), count=Metric.CONNECTIONS, limits=("2/1h",)))
    assert (len(kept[0]._trials), len(kept[0]._shut)) == (0, 0)


def test_a_rule_remembers_so_many_and_says_when_there_were_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.replay.figures.MAX_REMEMBERED", 2)
    tally = Tally()
    for number in range(5):
        entity = Entity("sender", str(number))
        tally.hit(entity, {Dimension.SENDER: entity}, 1)
        tally.message(entity, delivered=True, bad=False)
    assert (tally.total.hits, len(tally.entities), tally.overflowed, tally.total.delivered) == (5, 2, True, 5)


def test_counters_that_there_is_no_room_for_are_those_of_who_was_away_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_COUNTERS", 5)
    log = PostfixLog()
    for number in range(0, 60, 3):
        log.message(number, "regular@example.com", "x@example.net")
        log.message(number + 1, "seldom@example.com" if number in (0, 57) else f"{number}@example.com", "x@example.net")
    figures = replayed(log.lines, rule("r", limits=("1/1h",)))
    assert {entity.id: hits.hits for entity, hits in figures.rules["r"].entities.items()} == {
        "regular@example.com": 19
    }, "the one who came back after too many others begins anew"
    assert figures.forgotten == 1 + 20 - 5


def test_nothing_is_counted_that_nobody_looks_at() -> None:
    looked_at = rule("r", data("x"), limits=("9/1h",), when="last_1h.ip.messages > 2")
    seen = judging.Judging(Policy(rules=(looked_at,)), Spelling())

    async def run() -> None:
        for number in range(4):
            verdicts.append(await seen.judge(mail(), us(12, 0, number)))
            await seen.judge(rcpt("bob@example.net"), us(12, 0, number))
            verdicts.append(await seen.judge(data("bob@example.net"), us(12, 0, number)))

    verdicts: list[Verdict] = []
    asyncio.run(run())
    assert [bool(verdict.findings) for verdict in verdicts] == [False] * 5 + [True, False, True]
    kept = {(key.entity.dimension, key.metric) for key in seen._store._states}
    assert kept == {("ip", "messages"), ("sender", "messages")}
    [ip] = [state for key, state in seen._store._states.items() if key.entity.dimension == "ip"]
    assert isinstance(ip, Rings)
    assert [window for _, window in ip._rings] == [Window(3_600)]
