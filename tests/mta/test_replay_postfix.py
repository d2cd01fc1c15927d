"""A real Postfix is given known mail; its log, replayed, must tell exactly that."""

import json
import smtplib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reputation.cli import main
from tests.mta.postfix_for_tests import Postfix

MESSAGE = "Subject: hello\n\nhello\n"
RULES = """
[[rule]]
name = "by-sender"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["5/1h"]
action = "tempfail"
mode = "shadow"

[[rule]]
name = "by-user"
stage = "rcpt"
key = ["user"]
count = "recipients"
limits = ["10/1h"]
action = "tempfail"

[[rule]]
name = "harvest"
stage = "rcpt"
key = ["ip"]
count = "invalid_recipients"
limits = ["4/1h"]
action = "reject"
mode = "shadow"

[[rule]]
name = "bounces"
stage = "mail"
key = ["sender"]
count = "bounces"
limits = ["1/1h"]
action = "tempfail"
mode = "shadow"

[[rule]]
name = "connections"
stage = "connect"
key = ["prefix"]
count = "connections"
limits = ["3/1h"]
action = "tempfail"
mode = "shadow"
"""


def send_all(server: Postfix) -> None:
    """Alice sends 8 messages to 2, mallory 7 with one that there is not each, others one each."""
    for _ in range(2):
        with server.client("192.0.2.7", user="alice") as smtp:
            for _ in range(4):
                smtp.sendmail("alice@example.com", ["bob@example.net", "carol@example.net"], MESSAGE)
    for number in range(7):
        with server.client("198.51.100.9", name="[UNAVAILABLE]") as smtp:
            refused = smtp.sendmail("Mallory+1@Example.org", [f"no{number}@example.net", "team@example.net"], MESSAGE)
            assert list(refused) == [f"no{number}@example.net"]
    with server.client("2001:db8::1") as smtp:
        smtp.sendmail("", ["bob@example.net"], MESSAGE)
    with server.client("2001:db8::2") as smtp, suppress(smtplib.SMTPRecipientsRefused):
        smtp.sendmail("lost@example.com", ["nobody@example.net"], MESSAGE)
    with server.client("203.0.113.5") as smtp:
        smtp.sendmail("wrong@example.com", ["x@bad.example"], MESSAGE)
        server.wait_for_log("status=bounced", 1)
        smtp.sendmail("wrong@example.com", ["bob@example.net"], MESSAGE)
        smtp.sendmail("wrong@example.com", ["x@later.example"], MESSAGE)
    server.wait_for_log("status=deferred", 1)
    server.wait_for_log("disconnect from", 12)
    # All but the deferred one have left the queue, and so has the bounce that went back.
    server.wait_for_log(": removed", 8 + 7 + 1 + 2 + 1)


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_what_was_sent_is_what_is_found(server: Postfix, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    send_all(server)
    config, log = tmp_path / "rules.toml", str(server.log)
    config.write_text(RULES, encoding="utf-8")
    watched = ("--watch", "sender:alice@example.com", "--watch", "sender:lost@example.com")
    report = json_of(capsys, "replay", log, "--config", str(config), "--json", *watched)
    assert (report["logs"][0]["unreadable"], report["notes"]) == (0, [])
    assert (report["messages"], report["delivered"], report["given_back"]) == (8 + 7 + 1 + 1 + 3, 8 + 7 + 1 + 1, 1)
    assert report["outcomes"] == 7 + 1 + 1, "seven and one that there are not, one bounce"
    rules = {rule["rule"]: rule for rule in report["rules"]}
    assert [rule["not_judged"] for rule in rules.values()] == [""] * 5

    assert rules["by-sender"]["top"][0]["entity"] == "sender:alice@example.com"
    assert [each["hits"] for each in rules["by-sender"]["top"]] == [8 - 5, 7 - 5]
    assert (rules["by-sender"]["messages"], rules["by-sender"]["false_positives"]) == (5, 5)
    assert rules["by-sender"]["different"] == {"sender": 2, "user": 1, "ip": 2}

    assert (rules["by-user"]["judged"], rules["by-user"]["hits"], rules["by-user"]["messages"]) == (16, 16 - 10, 3)
    # Four are known as unknown when the team of the 4th message is named, and at each RCPT of the last three.
    assert [each["hits"] for each in rules["harvest"]["top"]] == [1 + 3 * 2]
    assert [(each["entity"], each["hits"]) for each in rules["bounces"]["top"]] == [("sender:wrong@example.com", 2)]
    assert {each["entity"]: each["hits"] for each in rules["connections"]["top"]} == {"prefix:198.51.100.0/24": 4}
    assert [(each["messages"], each["delivered"]) for each in report["watched"]] == [(8, 8), (1, 0)]


def test_limits_that_are_proposed_are_those_of_what_was_sent(
    server: Postfix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    send_all(server)
    report = json_of(
        capsys, "tune", str(server.log), "--json", "--quantile", "0.5", "--key", "sender", "--window", "1h"
    )
    found = {each["metric"]: each for each in report["proposals"]}
    assert report["messages"] == 8 + 7 + 1 + 3
    messages = found["messages"]
    # alice 8, mallory 7, wrong 3; the null sender is nobody. At midnight there would be more days.
    if messages["entity_days"] == 3:
        assert (messages["max"], messages["quantiles"]["0.5"], messages["limit"]) == (8, 7, "20/1h")
        assert found["recipients"]["max"] == 16
        assert found["recipients"]["quantiles"]["0.5"] == 7
