"""`reputon replay` and `reputon tune` as they are typed: what is printed, and what is said about mistakes."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reputation.assemble import settings_of
from reputation.cli import main
from tests.unit.replay.logs_for_tests import NEWEST, PostfixLog

RULES = """
[[rule]]
name = "by-sender"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["3/1h"]
action = "tempfail"

[[rule]]
name = "by-country"
stage = "connect"
key = ["country"]
count = "connections"
limits = ["3/1h"]
action = "tempfail"
mode = "shadow"
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with ten messages of one sender and two of another, and a line that nobody can read."""
    lines = PostfixLog()
    for second in range(10):
        lines.message(second, "newsletter@example.com", "x@example.net", user="news")
    lines.message(20, "b@example.com", "x@example.net", "y@example.net")
    lines.message(30, "b@example.com", "x@example.net")
    path = tmp_path / "mail.log"
    path.write_text("\n".join([*lines.lines, "\x1b[31mnonsense", ""]), encoding="utf-8")
    os.utime(path, (NEWEST.timestamp(),) * 2)
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments, "--timezone", "UTC") == 0
    told = capsys.readouterr()
    assert told.err == "", "no bar where nobody looks"
    return told.out


def replay(log: Path, *arguments: object) -> Sequence[object]:
    return ("replay", log, "--config", log.parent / "rules.toml", *arguments)


def test_the_report_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = log.parent / "bad"
    bad.write_text("# ours\n\nuser:NEWS   # has left\n", encoding="utf-8")
    watch = ("--watch", "sender:Newsletter+x@example.com")
    report: dict[str, Any] = json.loads(printed(capsys, *replay(log, "--json", "--known-bad", bad, *watch)))
    assert {key: report[key] for key in ("from", "until", "events", "messages", "delivered", "given_back")} == {
        "from": "2026-11-24T12:00:00+00:00",
        "until": "2026-11-24T12:00:31+00:00",
        "events": 12 + 10 + 12 + 6 + 5,
        "messages": 12,
        "delivered": 12,
        "given_back": 0,
    }
    assert report["logs"] == [
        {
            "file": str(log),
            "lines": len(log.read_text().splitlines()),
            "used": len(log.read_text().splitlines()) - 1 - 12,
            "unreadable": 1,
            "examples": [f"{log}:{len(log.read_text().splitlines())}: \\x1b[31mnonsense"],
        }
    ]
    assert report["rules"][0] == {
        "rule": "by-sender",
        "mode": "enforce",
        "stage": "mail",
        "action": "tempfail",
        "not_judged": "",
        "judged": 12,
        "hits": 7,
        "messages": 7,
        "delivered": 7,
        "false_positives": 0,
        "known_bad": 7,
        "first": "2026-11-24T12:00:03+00:00",
        "last": "2026-11-24T12:00:09+00:00",
        "entities": 1,
        "different": {"sender": 1, "user": 1, "ip": 1},
        "at_least": False,
        "top": [
            {
                "entity": "sender:newsletter@example.com",
                "hits": 7,
                "delivered": 7,
                "first": "2026-11-24T12:00:03+00:00",
                "last": "2026-11-24T12:00:09+00:00",
            }
        ],
    }
    assert report["rules"][1]["not_judged"] == "it asks for country, which no log tells"
    assert report["watched"][0]["entity"] == "sender:newsletter@example.com"
    assert (report["watched"][0]["messages"], report["watched"][0]["rules"]["by-sender"]["hits"]) == (10, 7)


def test_a_person_sees_whom_and_when(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    watch = ("--watch", "sender:newsletter@example.com", "--watch", "sender:b@example.com")
    text = printed(capsys, *replay(log, *watch))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "1 lines could not be read" in lines
    assert any(line.endswith("\\x1b[31mnonsense") for line in lines)
    assert "from 2026-11-24 12:00:00 to 2026-11-24 12:00:31" in lines
    assert "by-country could not be judged: it asks for country, which no log tells" in lines
    assert "│ by-sender │ 7 │ 7 │ 7 │ 2026-11-24 12:00:03 │" in lines
    assert "by-sender (tempfail, enforce) would have hit 1 senders, 1 users, 1 addresses" in lines
    assert "│ sender:newsletter@example.com │ 7 │ 7 │ 2026-11-24 12:00:03 │ 2026-11-24 12:00:09 │" in lines
    hit = (
        "sender:newsletter@example.com: 10 messages, 10 delivered, hit 7 times by by-sender, first 2026-11-24 12:00:03"
    )
    assert lines[-2:] == [hit, "sender:b@example.com: 2 messages, 2 delivered, never hit"]


def test_whoever_calls_himself_like_markup_is_shown_as_he_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    senders = ("[/x]@evil.example", "[red]boss[/red]@evil.example", "a\x1b[31m@evil.example")
    lines = PostfixLog()
    for second in range(8):
        for sender in senders:
            lines.message(second, sender, "bob@example.net")
    log = tmp_path / "[bold]mail[" / "b].log"
    log.parent.mkdir()
    log.write_text("\n".join([*lines.lines, "[/y] nonsense", ""]), encoding="utf-8")
    os.utime(log, (NEWEST.timestamp(),) * 2)
    (log.parent / "rules.toml").write_text(RULES, encoding="utf-8")
    replayed = printed(capsys, *replay(log, "--watch", "sender:[/x]@evil.example"))
    tuned = printed(capsys, "tune", log, "--key", "sender", "--quantile", "0.1", "--margin", "0.1")
    for text in (replayed, tuned):
        for shown in ("[/x]@evil.example", "[red]boss[/red]@evil.example", f"{log}:", "[/y] nonsense"):
            assert shown in text
        assert "\x1b" not in text
    assert "sender:[/x]@evil.example: 8 messages" in replayed


def test_limits_as_json_and_as_a_table(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("tune", log, "--key", "sender", "--window", "5m", "--quantile", "0.5", "--margin", "1")
    report = json.loads(printed(capsys, *asked, "--json"))
    assert report["messages"] == 12
    assert report["proposals"][0] == {
        "key": ["sender"],
        "metric": "messages",
        "stage": "mail",
        "window": "5m",
        "entity_days": 2,
        "quantiles": {"0.5": 2, "0.99": 10, "0.999": 10},
        "max": 10,
        "limit": "2/5m",
        "false_positives": 1,
        "entities_above": 1,
        "top": [{"entity": "sender:newsletter@example.com", "peak": 10}],
        "known_bad": {"entity_days": 0, "above": 0},
    }
    lines = [" ".join(line.split()) for line in printed(capsys, *asked).splitlines()]
    assert "│ sender messages │ 2 │ 2 │ 10 │ 10 │ 10 │ 2/5m │ 1 │ 1 │" in lines
    assert "sender messages above 2/5m: sender:newsletter@example.com (10)" in lines


def test_what_is_proposed_can_be_replayed(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = printed(capsys, "tune", log, "--toml")
    rules = log.parent / "tuned.toml"
    rules.write_text(toml, encoding="utf-8")
    assert {rule.mode for rule in settings_of(rules).rule} == {"shadow"}
    assert len(settings_of(rules).rule) == 2 * 5
    report = json.loads(printed(capsys, "replay", log, "--config", rules, "--json"))
    assert [rule["hits"] for rule in report["rules"]] == [0] * 10
    assert all(rule["judged"] for rule in report["rules"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "LOG", "--watch", "alice"], '"alice" names no entity: write DIMENSION:VALUE'),
        (["replay", "LOG", "--year", "26"], "--year 26: write the year of the log, such as 2026"),
        (
            ["replay", "LOG", "--timezone", "Nowhere/City"],
            '--timezone: there is no "Nowhere/City": write a name',
        ),
        (["replay", "LOG", "--timezone", "/etc"], '--timezone: there is no "/etc"'),
        (["replay", "LOG", "--skip-client", "filter"], '--skip-client: "filter" is no network: write 10.0.0.0/8'),
        (["replay", "LOG", "--known-bad", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
        (["replay", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
        (["replay", "EMPTY"], "no message and no connection in it"),
        (
            ["tune", "LOG", "--key", "asn"],
            '--key: "asn" cannot be tuned: write user, sender, sender_domain, ip',
        ),
        (["tune", "LOG", "--key", "ip+ip"], '--key: "ip+ip" cannot be tuned'),
        (["tune", "LOG", "--window", "fortnight"], '--window: "fortnight" is no stretch of time: write 5m, 1h or 1d'),
        (
            ["tune", "LOG", "--quantile", "99.9"],
            "--quantile 99.9: write a share of the entity-days above 0 and up to 1",
        ),
        (["tune", "LOG", "--margin", "0"], "--margin 0: write a factor above 0, such as 1.5"),
    ],
)
def test_mistakes_say_what_to_write(
    arguments: list[str], said: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = log.parent / "empty"
    empty.write_text("")
    names = {"LOG": str(log), "EMPTY": str(empty)}
    assert run(*(names.get(argument, argument) for argument in arguments)) == 1
    assert said in capsys.readouterr().err


def test_all_mistakes_of_a_file_of_abusers_are_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = log.parent / "bad"
    bad.write_text("user:x\nalice\nip:a\n", encoding="utf-8")
    assert run("replay", log, "--known-bad", bad) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f'{bad}:2: "alice" names no entity')
    assert second.startswith(f'{bad}:3: "a" is no IP address')


def test_a_file_without_mail_is_a_mistake_that_says_what_is_known(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = log.parent / "access.log"
    other.write_text('127.0.0.1 - - [24/Nov/2026:12:00:00 +0000] "GET /"\n')
    for command in ("replay", "tune"):
        assert run(command, log, other) == 1
        assert f"{other}: not one of 1 lines says anything of mail: known are" in capsys.readouterr().err
