"""Peaks, quantiles and limits, held against counts that take no short cuts."""

import tomllib
from bisect import bisect_right
from datetime import UTC
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reputation.assemble import settings_of
from reputation.events import Stage
from reputation.keys import Dimension, Entity
from reputation.replay import tuning as tuning_module
from reputation.replay.flow import Flow
from reputation.replay.tuning import Proposal, Track, Tuning, rounded_up, rules_toml
from reputation.spelling import Spelling
from reputation.windows import MICROSECONDS, Window
from tests.unit.replay.logs_for_tests import NOON, PostfixLog, records

SENDER, USER, IP = ((dimension,) for dimension in (Dimension.SENDER, Dimension.USER, Dimension.IP))
FIVE_MINUTES, HOUR, DAY = Window(300), Window(3_600), Window(86_400)


def tuned(
    log: PostfixLog,
    *keys: tuple[Dimension, ...],
    windows: tuple[Window, ...] = (FIVE_MINUTES, HOUR, DAY),
    **more: object,
) -> Tuning:
    tuning = Tuning(keys, windows, Spelling(), **{"zone": UTC, **more})  # type: ignore[arg-type]  # what a test passes on
    for timed in Flow().steps(records(log.lines)):
        tuning.take(timed)
    return tuning


def proposal(tuning: Tuning, quantile: float = 0.999, margin: float = 1.5, **more: int) -> Proposal:
    return tuning.proposals(quantile=quantile, margin=margin, **more)[0]


def peak(times: list[float], seconds: float) -> int:
    """The most of these times in any window, each counted anew."""
    return max(sum(end - seconds < time <= end for time in times) for end in times)


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    windows=st.lists(st.integers(1, 120), min_size=1, max_size=3, unique=True),
)
def test_the_peak_of_a_sliding_window_is_exact(gaps: list[int], windows: list[int]) -> None:
    track, now, times = Track(len(windows)), 0, []
    lengths = [seconds * MICROSECONDS for seconds in sorted(windows)]
    for gap in gaps:
        now += gap
        times.append(now)
        track.add(now * MICROSECONDS, lengths)
    assert track.peaks == [peak(times, seconds) for seconds in sorted(windows)]  # type: ignore[arg-type]  # whole seconds


def test_the_peak_is_exact_over_many_units_and_old_ones_are_let_go() -> None:
    random, track = Random(5), Track(1)
    times = sorted(random.randrange(20_000) for _ in range(20_000))
    for time in times:
        track.add(time * MICROSECONDS, [60 * MICROSECONDS])
    assert track.peaks == [max(bisect_right(times, end) - bisect_right(times, end - 60) for end in times)]
    assert len(track.times) < 5_000


def test_figures_are_those_of_plain_lists() -> None:
    random, log = Random(11), PostfixLog()
    sent: dict[tuple[str, int], list[float]] = {}
    everything: dict[str, list[float]] = {}
    for second in sorted(random.randrange(3 * 86_400) for _ in range(600)):
        sender = f"{random.choice('aaaabbc')}@example.com"
        day = int((NOON.timestamp() - 2 * 86_400 + second) // 86_400)
        sent.setdefault((sender, day), []).append(second)
        everything.setdefault(sender, []).append(second)
        log.message(second - 2 * 86_400, sender, "x@example.net")
    for window in (FIVE_MINUTES, HOUR, DAY):
        peaks = sorted(
            max(sum(end - window.seconds < time <= end for time in everything[sender]) for end in ends)
            for (sender, _), ends in sent.items()
        )
        found = proposal(tuned(log, SENDER, windows=(window,)), quantile=0.5, margin=1.0)
        assert found.entity_days == len(peaks)
        assert found.most == peaks[-1]
        assert found.quantiles == {share: peaks[-int(-len(peaks) * share // 1) - 1] for share in (0.5, 0.99, 0.999)}
        assert found.limit == rounded_up(found.quantiles[0.5])
        assert found.false_positives == sum(peak > found.limit for peak in peaks)


def test_the_ones_above_the_limit_are_named() -> None:
    log = PostfixLog()
    for number in range(20):
        log.message(number, f"small{number}@example.com", "x@example.net")
    for second in range(30):
        log.message(100 + second, "newsletter@example.com", "x@example.net")
    for second in range(12):
        log.message(200 + second, "busy@example.com", "x@example.net")
    found = proposal(tuned(log, SENDER, windows=(FIVE_MINUTES,)), quantile=0.9, margin=1.5, top=1)
    assert (found.entity_days, found.quantiles[0.9], found.limit) == (22, 1, 2)
    assert (found.false_positives, found.entities_above) == (2, 2)
    assert [(str(entity), peak) for entity, peak in found.top] == [("sender:newsletter@example.com", 30)]


def test_the_known_bad_are_no_part_of_the_population() -> None:
    log = PostfixLog()
    for second in range(30):
        log.message(second, "bad@example.com", "x@example.net", user="bob")
    log.message(100, "good@example.com", "x@example.net", user="alice")
    found = proposal(tuned(log, SENDER, known_bad=[Entity("user", "bob")]))
    assert (found.entity_days, found.most, found.limit, found.false_positives) == (1, 1, 2, 0)
    assert (found.known_bad_days, found.known_bad_above) == (1, 1)


def test_recipients_count_each_and_what_was_refused_does_not() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "x@example.net", "y@example.net", unknown=["n@example.net"])
    pid = log.connect(5)
    log.refuse(5, pid, "a@example.com", "n@example.net")
    log.disconnect(6, pid)
    tuning = tuned(log, SENDER, (Dimension.RECIPIENT,), windows=(HOUR,))
    found = {(str(it.series), it.series.stage): it.most for it in tuning.proposals(quantile=1, margin=1)}
    assert found == {
        ("sender messages", Stage.MAIL): 1,
        ("sender recipients", Stage.RCPT): 2,
        ("recipient messages", Stage.RCPT): 1,
    }
    assert tuning.messages == 1


def test_days_are_those_of_the_zone() -> None:
    log = PostfixLog()
    for hour in range(8, 13):  # 20:00 to midnight and later, UTC; the next day in Tokyo all the time
        log.message(3_600 * hour, "a@example.com", "x@example.net")
    assert proposal(tuned(log, SENDER)).entity_days == 2
    assert proposal(tuned(log, SENDER, zone=ZoneInfo("Asia/Tokyo"))).entity_days == 1


def test_whoever_is_silent_is_forgotten_and_his_days_are_not() -> None:
    log = PostfixLog()
    for day in range(6):
        log.message(86_400 * (day - 8), f"{day}@example.com", "x@example.net")
    tuning = tuned(log, SENDER)
    assert sum(len(tracks) for tracks in tuning._tracks.values()) <= 2 * 3
    assert proposal(tuning).entity_days == 6


def test_more_than_can_be_followed_are_counted_as_far_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_module, "MAX_ENTITIES", 3)
    log = PostfixLog()
    for number in range(10):
        log.message(number, f"{number}@example.com", "x@example.net")
    tuning = tuned(log, SENDER)
    assert tuning.overflowed
    assert proposal(tuning).entity_days == 10


def test_who_writes_regularly_is_followed_however_many_others_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_module, "MAX_ENTITIES", 3)
    log = PostfixLog()
    for number in range(10):
        log.message(number, "regular@example.com", "x@example.net")
        log.message(number, f"{number}@example.com", "x@example.net")
    assert proposal(tuned(log, SENDER)).most == 10


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        (0, 1),
        (1, 1),
        (1.5, 2),
        (2.1, 3),
        (3.0, 3),
        (4, 5),
        (6, 10),
        (39, 50),
        (51, 100),
        (1_501, 2_000),
        (70_000, 100_000),
    ],
)
def test_limits_are_round(number: float, limit: int) -> None:
    assert rounded_up(number) == limit


def test_the_rules_can_be_put_into_a_configuration(tmp_path: Path) -> None:
    log = PostfixLog()
    for number in range(200):
        log.message(20 * number, "a@example.com", "x@example.net", user="alice")
    keys = (SENDER, (Dimension.SENDER_DOMAIN, Dimension.IP), (Dimension.RECIPIENT_DOMAIN,))
    lines = list(rules_toml(tuned(log, *keys).proposals(quantile=0.999, margin=1.5)))
    file = tmp_path / "rules.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    rules = settings_of(file).policy().rules
    assert [(rule.name, rule.stage, rule.mode) for rule in rules] == [
        ("tuned-sender-messages", "mail", "shadow"),
        ("tuned-sender-recipients", "rcpt", "shadow"),
        ("tuned-sender-domain-ip-messages", "mail", "shadow"),
        ("tuned-sender-domain-ip-recipients", "rcpt", "shadow"),
        ("tuned-recipient-domain-messages", "rcpt", "shadow"),
    ]
    assert tomllib.loads("\n".join(lines))["rule"][0]["limits"] == ["30/5m", "300/24h"]
    assert str(rules[0].limits[0]) == "30/5m"


def test_a_limit_that_a_longer_window_has_as_well_is_left_out() -> None:
    log = PostfixLog()
    for number in range(4):
        log.message(number, "a@example.com", "x@example.net")
    lines = list(rules_toml(tuned(log, SENDER).proposals(quantile=1, margin=1)))
    assert 'limits = ["5/24h"]' in lines


def test_nothing_gives_no_proposals() -> None:
    assert Tuning([SENDER], [HOUR], Spelling(), zone=UTC).proposals(quantile=0.999, margin=1.5) == []
