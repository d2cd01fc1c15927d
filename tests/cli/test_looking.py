"""What people look at: the same answer from the store and by the API, as JSON and as tables that cut nothing off."""

import time

import pytest

from tests.cli.site_for_tests import BUSY, CLIENT, HELD, QUIET, Site, cells

RULES = ("sender-messages", "few-clients", "user-messages")


def test_the_worst_sender_of_the_last_hour_stands_first(site: Site) -> None:
    found = site.run_here("top", "--n", "3", "--json").json
    assert (found["dimension"], found["metric"]) == ("sender", "messages")
    assert [(row["entity"], row["count"]) for row in found["rows"]] == [
        (f"sender:{BUSY}", 20),
        ("sender:news@example.com", 5),
        (f"sender:{QUIET}", 3),
    ]


def test_a_person_sees_them_in_a_table_with_bars(site: Site) -> None:
    told = site.run("top", "--n", "2")
    assert (told.status, told.err) == (0, "")
    assert told.lines[0] == "messages by sender, 1h, now"
    assert told.lines[3] == f"1 {BUSY} 20 ████████████"
    assert told.lines[-1] == f"see why: reputon show sender:{BUSY}"


@pytest.mark.parametrize("when", ["1 min ago", "1 s ago"])
def test_a_moment_that_is_over_is_asked_about_as_people_say_it(store_site: Site, when: str) -> None:
    before = time.time()
    found = store_site.run_here("top", "--at", when, "--json").json
    seconds = 60 if "min" in when else 1
    assert before - seconds <= found["at"] <= time.time() - seconds


def test_when_nothing_was_counted_it_says_so(site: Site) -> None:
    told = site.run_here("top", "recipient_domain", "--metric", "messages", "--window", "5m", "--at", "26 h ago")
    assert (told.status, told.lines[-1]) == (0, "Nobody: nothing was counted then.")


def test_the_page_of_somebody_has_counts_limits_reputation_and_verdicts(site: Site) -> None:
    page = site.run_here("show", f"sender:{BUSY}", "--json").json
    assert page["next"]["rule"] == "sender-messages"
    assert {"metric": "messages", "window": "1h", "count": 20, "rule": ""} in page["counts"]
    assert page["reputation"]["score"] > 0.9
    assert page["recent"][0]["action"] == "tempfail"
    lines = site.run("show", f"sender:{BUSY}").lines
    assert lines[0] == f"sender:{BUSY}"
    assert lines[1].startswith("next event: action=tempfail reason=over-limit rule=sender-messages retry_after=")
    assert cells(lines, "sender-messages", "20/1h", "tempfail")
    assert cells(lines, f"5 tempfail mail {CLIENT} {BUSY} over-limit sender-messages")
    assert "Counted" in lines


def test_explain_keeps_the_names_that_were_documented(site: Site) -> None:
    told = site.run_here("explain", f"sender:{BUSY}", "--json").json
    assert set(told) == {"entity", "next", "register", "rules", "reputation", "counts"}
    assert {"action", "reason", "rule", "entry", "retry_after_seconds", "would"} <= set(told["next"])
    (rule,) = told["rules"]
    assert (rule["rule"], rule["count"], rule["limit"], rule["remaining"]) == ("sender-messages", 20, "20/1h", 0)
    assert 0 < rule["retry_after_seconds"] <= 3_900
    assert {"score", "confidence", "active_now", "repeat_offender", "base", "levels"} == set(told["reputation"])


def test_counts_over_time_are_drawn(site: Site) -> None:
    (day,) = cells(site.run("series", f"sender:{BUSY}").lines, "messages", "1d", "60 min")
    assert "█" in day
    large = site.run("series", f"sender:{BUSY}", "--metric", "messages", "--window", "1d").lines
    assert f"20 {'█' * 40}" in " ".join(large)
    assert not cells(large, "recipients")


def test_the_rules_in_force_have_their_counts(site: Site) -> None:
    rows = {row["rule"]: row for row in site.run_here("rules", "--json").json["rules"]}
    assert tuple(rows) == RULES
    assert rows["sender-messages"]["hits"]["last_1d"] == 5
    assert rows["few-clients"]["would_hit"]["last_1d"] == 15
    (line,) = cells(site.run("rules", columns=80).lines, "few-clients")
    assert line.startswith("few-clients mail reject shadow ")


def test_what_enforcing_a_rule_would_change(site: Site) -> None:
    found = site.run_here("would-do", "few-clients", "--json").json
    assert (found["verdicts"], found["changed"]) == (15, 10)
    lines = site.run("would-do", "few-clients").lines
    assert cells(lines, "it would have hit 15 times; 10 of these passed")
    assert cells(lines, f"ip:{CLIENT} 15 10"), "whom the rule counts"


def test_who_is_held_and_his_case_file(store_site: Site) -> None:
    (suspect,) = store_site.run_here("suspects", "--json").json["suspects"]
    assert (suspect["entity"], suspect["rule"]) == (f"user:{HELD}", "user-messages")
    assert cells(store_site.run("suspects").lines, f"user:{HELD} user-messages")
    lines = store_site.run("suspects", "show", f"user:{HELD}").lines
    assert cells(lines, "* Ask the owner by another way than mail")
    assert cells(lines, "actions tempfail (3)")
    case = store_site.run_here("suspects", "show", f"user:{HELD}", "--json").json
    assert case["suspect"] == suspect


def test_the_site_at_a_glance(site: Site) -> None:
    found = site.run_here("status", "--json").json
    assert found["store"]["up"]
    assert {each["action"]: each["last_1d"] for each in found["actions"]}["tempfail"] == 8
    lines = site.run("status", columns=80).lines
    assert lines[0].startswith("Valkey ")
    assert cells(lines, "accept", "|")
    assert cells(lines, "few-clients", "shadow")


def test_what_was_done_lately(site: Site) -> None:
    first = site.run_here("audit", "--json").json["lines"][-1]
    assert (first["what"], first["id"], first["author"]) == ("put", f"ban|user:{HELD}", "rule user-messages")
    assert cells(site.run("audit").lines, "put", f"ban|user:{HELD}", "rule user-messages")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("top", "nonsense"), "sender_domain"),
        (("top", "--metric", "nonsense"), "messages"),
        (("top", "--window", "1y"), "5m"),
        (("top", "--n", "1001"), "1000"),
        (("top", "--at", "yesterday"), 'write "2 h ago"'),
        (("show", "nonsense"), "write DIMENSION:VALUE"),
        (("explain", "sender:"), "write DIMENSION:VALUE"),
        (("would-do", "nonsense"), "`reputon rules`"),
        (("tail", "--action", "nonsense"), "tempfail"),
        (("tail", "--entity", "nonsense"), "write DIMENSION:VALUE"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(site: Site, command: tuple[str, ...], said: str) -> None:
    told = site.run_here(*command)
    assert (told.status, told.out) == (1, "")
    (line,) = told.err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "command",
    [
        ("ban",),
        ("ban", "ip:192.0.2.1"),
        ("top", "--api", "http://127.0.0.1:1", "--config", "x.toml"),
        ("suspects", "--json", "show", "ip:192.0.2.1"),
        ("override", "few-clients", "ip:192.0.2.1"),
        ("override", "few-clients", "ip:192.0.2.1", "5/1h", "--lift"),
        ("outcome",),
        ("outcome", "spam", "--arf", "-"),
        ("token", "create", "--scope", "read"),
        ("nonsense",),
    ],
)
def test_wrong_usage_has_a_status_of_its_own_and_does_nothing(store_site: Site, command: tuple[str, ...]) -> None:
    told = store_site.run_here(*command)
    assert (told.status, told.out) == (2, "")
    assert told.err
