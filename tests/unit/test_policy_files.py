"""Policy files: which are included in which order, what they may hold, and what a site changes of their rules."""

from pathlib import Path

import pytest

from reputation.config import BUILT_IN, Settings, effective, effective_lines
from reputation.config_files import load, policies_path
from reputation.errors import ConfigError
from reputation.rules import Mode
from reputation.windows import Limit


def rule_text(name: str, *more: str) -> str:
    lines = ("[[rule]]", f'name = "{name}"', 'stage = "mail"', 'key = ["sender"]', 'count = "messages"')
    return "\n".join((*lines, 'limits = ["30/1m"]', 'action = "tempfail"', *more, ""))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's directory, with policy files in it; a strange name, as directories have them."""
    directory = tmp_path / "site [1]*"
    (directory / "policies").mkdir(parents=True)
    for name in ("b", "a", "c"):
        (directory / "policies" / f"{name}.toml").write_text(rule_text(f"rule-{name}"), encoding="utf-8")
    (directory / "policies" / ".#a.toml").write_text("what an editor leaves", encoding="utf-8")
    return directory


def read(site: Path, text: str) -> Settings:
    file = site / "reputon.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def names(settings: Settings) -> list[str]:
    return [rule.name for rule in settings.policy().rules]


def mistakes(site: Path, text: str, *, file: str = "reputon.toml") -> str:
    """What is said; each line names the file that it is about."""
    with pytest.raises(ConfigError) as caught:
        read(site, text)
    lines = str(caught.value).splitlines()
    beginning = f"{site / file}: "
    assert [line for line in lines if not line.startswith(beginning)] == []
    return "\n".join(line.removeprefix(beginning) for line in lines)


# --- what is included


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ('["policies/*.toml"]', ["rule-a", "rule-b", "rule-c"]),
        ('["policies/c.toml", "policies/a.toml"]', ["rule-c", "rule-a"]),
        ('["policies/c.toml", "policies/[ab].toml"]', ["rule-c", "rule-a", "rule-b"]),
        ('["policies/../policies/b.toml"]', ["rule-b"]),
        ('["*/b.toml"]', ["rule-b"]),
        ("[]", []),
    ],
)
def test_files_come_in_the_order_in_which_they_are_written_and_by_name_within_a_pattern(
    site: Path, include: str, expected: list[str]
) -> None:
    assert names(read(site, f"include = {include}\n")) == expected


def test_included_rules_stand_before_the_site_s_own(site: Path) -> None:
    assert names(read(site, 'include = ["policies/b.toml"]\n' + rule_text("own"))) == ["rule-b", "own"]


def test_a_path_may_begin_at_the_root_and_is_otherwise_from_the_including_file(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.toml").write_text(rule_text("rule-d"), encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    assert names(read(site, f'include = ["{elsewhere}/d.toml", "policies/a.toml"]\n')) == ["rule-d", "rule-a"]
    assert names(read(site, f'include = ["{elsewhere}/*.toml"]\n')) == ["rule-d"]
    assert 'there is no file "d.toml"' in mistakes(site, 'include = ["d.toml"]\n')


def test_a_configuration_named_without_its_directory_finds_its_files(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "reputon.toml").write_text('include = ["policies/a.toml"]\n', encoding="utf-8")
    monkeypatch.chdir(site)
    assert names(load(Path("reputon.toml"))) == ["rule-a"]


def test_lists_are_included_as_well_before_the_site_s_own(site: Path) -> None:
    listed = '[[list]]\nname = "{}"\nof = "ip"\nvalues = ["192.0.2.7"]\n'
    (site / "lists.toml").write_text(listed.format("partners"), encoding="utf-8")
    settings = read(site, 'include = ["lists.toml"]\n' + listed.format("own"))
    assert [each.name for each in settings.list_] == ["partners", "own"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_policies_that_come_with_reputon_can_be_included(site: Path, name: str) -> None:
    assert (policies_path() / f"{name}.toml").is_file()
    text = f'include = ["{name}"]\n[keys]\nsubject_key = "secret"\n'
    rules = names(read(site, text))
    assert rules, "it has some"
    assert names(read(site, text + rule_text("own"))) == [*rules, "own"]


def test_the_policies_that_come_with_reputon_can_be_used_together(site: Path) -> None:
    text = f'include = [{", ".join(f"{name!r}" for name in BUILT_IN)}]\n[keys]\nsubject_key = "secret"\n'
    assert len(names(read(site, text))) > len(BUILT_IN)


# --- mistakes


@pytest.mark.parametrize("pattern", ["policies/d.toml", "policies/d*.toml", "", "defaults"])
def test_what_is_not_there_is_a_mistake(site: Path, pattern: str) -> None:
    said = mistakes(site, f'include = ["policies/a.toml", "{pattern}"]\n')
    assert said.startswith(f'include: there is no file "{pattern}" in {site}; write a path from there, or ')
    assert "default" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[store]\nurl = 'memory:'\n", "[store]: an included file holds [[rule]] and [[list]] only"),
        ('include = ["c.toml"]\n', "[include]: an included file holds [[rule]] and [[list]] only"),
        ("[change.rule-b]\nmode = 'shadow'\n", "[change]: an included file holds [[rule]] and [[list]] only"),
        ("[[python]]\nfile = 'x.py'\n", "[python]: an included file holds [[rule]] and [[list]] only"),
        (rule_text("odd", "colour = 1"), '[[rule]] "odd" colour: unknown key'),
        (rule_text("odd", 'when = "nobody == 1"'), '[[rule]] "odd" when: there is no "nobody"'),
        (rule_text("odd", 'reply = "550 no"'), '[[rule]] "odd" reply: action tempfail needs a code that begins with 4'),
        ("[[rule]]\n", "[[rule]] 1 name: is required"),
        ('[[list]]\nname = "vip"\nof = "planet"\n', '[[list]] "vip" of: "planet" cannot be listed'),
        ("rule = 1\n", "[[rule]]: write the name of each rule's table in two brackets"),
        ("[[rule\n", "is not valid TOML"),
    ],
)
def test_a_mistake_in_an_included_file_names_that_file(site: Path, text: str, said: str) -> None:
    (site / "policies" / "a.toml").write_text(text, encoding="utf-8")
    include = 'include = ["policies/b.toml", "policies/a.toml"]\n'
    assert mistakes(site, include, file="policies/a.toml").startswith(said)


def test_an_included_file_that_cannot_be_read_is_named(site: Path) -> None:
    (site / "policies" / "a.toml").write_bytes(b"\xff\xfe")
    assert mistakes(site, 'include = ["policies/a.toml"]\n', file="policies/a.toml") == "is not UTF-8 text"
    assert mistakes(site, 'include = ["policies"]\n', file="policies") == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("include", "said"),
    [
        ('"default"', "include: write a list, in brackets: [...]"),
        ('["policies/a.toml", 1]', 'include, item 2: write text, in quotes: "..."'),
    ],
)
def test_files_are_named_in_a_list(site: Path, include: str, said: str) -> None:
    assert mistakes(site, f"include = {include}\n") == said


@pytest.mark.parametrize(
    "text",
    [
        'include = ["policies/a.toml"]\n' + rule_text("rule-a"),
        'include = ["policies/a.toml", "policies/*.toml"]\n',
    ],
    ids=["the site's own", "one file twice"],
)
def test_two_rules_of_one_name_are_refused_wherever_they_stand(site: Path, text: str) -> None:
    said = "rule names must differ, because each names a counter: rule-a; to change a rule of an included file"
    assert mistakes(site, text).startswith(said)


def test_a_subject_of_an_included_rule_needs_its_key(site: Path) -> None:
    text = rule_text("rule-a").replace('"mail"', '"data"').replace('"sender"', '"subject"')
    (site / "policies" / "a.toml").write_text(text, encoding="utf-8")
    include = 'include = ["policies/a.toml"]\n'
    assert mistakes(site, include) == '[[rule]] "rule-a" key: counting subjects needs keys.subject_key'
    assert names(read(site, include + '[keys]\nsubject_key = "secret"\n')) == ["rule-a"]


# --- changes

ALL = 'include = ["policies/*.toml"]\n'


def test_a_site_changes_what_it_wants_of_a_rule_and_the_rest_stays(site: Path) -> None:
    text = ALL + '[change.rule-b]\nmode = "shadow"\nlimits = ["7/1h", "9/24h"]\n[change.rule-c]\nwhen = "!tls"\n'
    a, b, c = read(site, text).policy().rules
    assert (a.mode, a.limits, a.when) == (Mode.ENFORCE, (Limit.parse("30/1m"),), "")
    assert (b.mode, b.limits, b.key, b.when) == (Mode.SHADOW, (Limit.parse("7/1h"), Limit.parse("9/24h")), a.key, "")
    assert (c.mode, c.when, c.limits) == (Mode.ENFORCE, "!tls", a.limits)


def test_what_is_shown_is_what_came_of_the_changes(site: Path) -> None:
    settings = read(site, ALL + '[change.rule-b]\nmode = "shadow"\n')
    assert [rule["mode"] for rule in effective(settings)["rule"]] == ["enforce", "shadow", "enforce"]
    shown = "\n".join(effective_lines(settings))
    assert "include" not in shown and "[change" not in shown
    (site / "shown.toml").write_text(shown, encoding="utf-8")
    assert load(site / "shown.toml").policy().rules == settings.policy().rules, "it can be read as it is shown"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('[change.rule-d]\nmode = "shadow"', "[change.rule-d]: no included file has a rule of that name; there are: r"),
        ('[change.own]\nmode = "shadow"', "[change.own]: no included file has a rule of that name"),
        ('[change.rule-b]\nmode = "loud"', '[change.rule-b] mode: write one of "shadow"'),
        ("[change.rule-b]\ncolour = 1", "[change.rule-b] colour: unknown key"),
        ("[change.rule-b.colour]\nx = 1", "[change.rule-b.colour]: unknown table"),
        ("[change.rule-b]\nlimits = [1]", '[change.rule-b] limits, item 1: write text, in quotes: "..."'),
        ('[change.rule-b]\nlimits = ["lots"]', '[change.rule-b] limits: "lots" is not a limit'),
        ('[change.rule-b]\nname = "other"', "[change.rule-b] name: a rule keeps its name, which names its counters"),
        ('[change.rule-b]\nname = "rule-b"', "[change.rule-b] name: a rule keeps its name"),
        ('[change.rule-b]\nwhen = "nobody == 1"', '[change.rule-b] when: there is no "nobody"'),
        ('[change.rule-b]\nstage = "connect"', "[change.rule-b] key: sender is not known at stage connect"),
        ('[change.rule-b]\naction = "reject"\nreply = "450 no"', "[change.rule-b] reply: action reject needs a code"),
        ("[change]\nrule-b = 1", "[change] rule-b: this is a table: write its keys under its name in brackets"),
    ],
)
def test_a_change_that_cannot_be_is_named_by_the_rule_and_the_key(site: Path, change: str, said: str) -> None:
    assert mistakes(site, ALL + rule_text("own") + change + "\n").startswith(said)


def test_all_mistakes_of_a_change_are_told_at_once(site: Path) -> None:
    said = mistakes(site, ALL + '[change.rule-b]\nmode = "loud"\ncolour = 1\n').splitlines()
    assert [line.partition(":")[0] for line in said] == ["[change.rule-b] mode", "[change.rule-b] colour"]


def test_without_included_files_there_is_nothing_to_change(site: Path) -> None:
    said = mistakes(site, rule_text("own") + '[change.own]\nmode = "shadow"\n')
    assert said == "[change.own]: no included file has a rule of that name; there are: none"
