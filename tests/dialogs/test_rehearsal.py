"""The program that operators rehearse their policies with: what it prints, and what it says at the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smtp_frontend.rehearsal.__main__ import main
from smtp_frontend.rehearsal.script import parse

RULES = """\
[store]
url = "redis://nowhere.invalid/0"
[smtp]
listen = ["192.0.2.1:25"]
hostname = "elsewhere.example.net"
relay_domains = ["*"]
next_hop = "smtp://nowhere.invalid"
max_errors = 2
[smtp.tls]
certificate = "/nonexistent"
key = "/nonexistent"
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "tempfail"
reply = "enough \\"now\\", ä is ours"
"""
SECOND_IS_TOO_MUCH = """\
---
! hello
! deliver alice@example.com bob@example.net
C: MAIL FROM:<alice@example.com>
S: 451 4.7.1 enough *
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "reputon.toml"
    file.write_text(RULES.replace(", ä is ours", ""), encoding="utf-8")
    return str(file)


def written(directory: Path, **scripts: str) -> str:
    folder = directory / "scripts"
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (folder / f"{name}.smtp").write_text(text, encoding="utf-8")
    return str(folder)


def test_scripts_are_about_the_configuration_in_use(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, a=SECOND_IS_TOO_MUCH, b=SECOND_IS_TOO_MUCH)
    assert main(["--config", config, folder]) == 0
    assert capsys.readouterr().out == (
        f"pass  {folder}/a.smtp: first scene\npass  {folder}/b.smtp: first scene\n2 scenes, 0 failed\n"
    )


def test_a_failure_says_where_and_what_came_and_the_others_are_played(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SECOND_IS_TOO_MUCH.replace("451 4.7.1 enough", "550 5.7.1") + "C: QUIT\nS: 221 *\n"
    folder = written(tmp_path, a=wrong, b=SECOND_IS_TOO_MUCH)
    assert main(["--config", config, folder]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"FAIL  {folder}/a.smtp: first scene"
    told = [line.strip() for line in lines]
    assert f"{folder}/a.smtp:5" in told
    assert "expected: S: 550 5.7.1 *" in told
    assert 'came:     S: 451 4.7.1 enough "now"' in told
    assert told.count("C: MAIL FROM:<alice@example.com>") == 1
    assert "C: QUIT" not in told
    assert lines[-2:] == [f"pass  {folder}/b.smtp: first scene", "2 scenes, 1 failed"]


def test_all_dialogues_are_shown_when_asked_for(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config, "-v", written(tmp_path, a=SECOND_IS_TOO_MUCH)]) == 0
    assert '      S: 451 4.7.1 enough "now"\n' in capsys.readouterr().out


def test_a_scene_changes_the_configuration_in_use(tmp_path: Path, config: str) -> None:
    shadow = '=== in shadow\n[every_rule]\nmode = "shadow"\n---\n! hello\n'
    shadow += "! deliver alice@example.com bob@example.net\n" * 2
    assert main(["--config", config, written(tmp_path, a=SECOND_IS_TOO_MUCH + shadow)]) == 0


def test_a_script_with_rules_of_its_own_is_about_those(tmp_path: Path, config: str) -> None:
    own = (
        '[[rule]]\nname = "r"\nstage = "mail"\nkey = ["ip"]\ncount = "messages"\nlimits = ["1/1h"]\naction = "reject"\n'
    )
    text = own + SECOND_IS_TOO_MUCH.replace("451 4.7.1 enough", "550 5.7.1")
    assert main(["--config", config, written(tmp_path, a=text)]) == 0
    assert main([written(tmp_path, a=text)]) == 0


def test_a_next_hop_of_its_own_is_no_configuration(tmp_path: Path, config: str) -> None:
    hop = '[hop.script]\nEHLO = "502 no"\n'
    assert main(["--config", config, written(tmp_path, a=hop + SECOND_IS_TOO_MUCH)]) == 0


def test_what_is_included_is_found_from_the_file_that_includes_it(tmp_path: Path, config: str) -> None:
    rules = tmp_path / "policies"
    rules.mkdir()
    (rules / "rate.toml").write_text(RULES[RULES.index("[[rule]]") :], encoding="utf-8")
    Path(config).write_text('include = ["policies/*.toml"]\n', encoding="utf-8")
    text = SECOND_IS_TOO_MUCH.replace("enough *", "enough ?now?, * is ours".replace("?", '"'))
    (rules / "rate.toml").write_text(RULES[RULES.index("[[rule]]") :].replace("ä", "it"), encoding="utf-8")
    assert main(["--config", config, written(tmp_path, a=text)]) == 0
    own = 'include = ["../policies/rate.toml"]\n'
    assert main([written(tmp_path, a=own + text)]) == 0


def test_whoever_is_known_and_logs_in(tmp_path: Path) -> None:
    rule = """\
[[rule]]
name = "r"
stage = "mail"
when = 'country == "DE" && user == "al+ice"'
action = "reject"
reply = "no {entity}"
"""
    rule = rule.replace("no {entity}", "no")
    text = """\
---
! known 192.0.2.7 country=DE
! client 192.0.2.7 as al+ice
S: 220 *
C: HELO x
S: 250 *
C: MAIL FROM:<a@example.com>
S: 550 5.7.1 no
! client 192.0.2.8 as al+ice
! hello
! deliver a@example.com b@example.com
! client 192.0.2.7
! hello
! deliver a@example.com b@example.com
! user al+ice
! hello
C: MAIL FROM:<a@example.com>
S: 550 5.7.1 no
"""
    assert main([written(tmp_path, a=rule + text)]) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\n! dance\n", "line 2: unknown stage direction"),
        ("[smtp\n---\nC: x\n", "configuration of scene 1"),
        ("[hop]\nspeed = 1\n---\nC: x\n", "scene 1: [hop] speed: known are extensions, lmtp, script"),
        ("# no end of the header\n", "a scene without a dialogue"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "configuration of scene 1"),
    ],
)
def test_a_script_that_cannot_be_read(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, a=text)
    assert main([folder]) == 1
    assert f"{folder}/a.smtp: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\n! known colour=red\n", 'a.smtp:2: ! known colour=red: "colour=red" is nothing that can be known'),
        ("---\n! outcome tasty\n", "a.smtp:2: ! outcome tasty: 'tasty' is not a valid OutcomeKind"),
        ("---\n! outcome spam\n", "came:     no message was taken"),
        ("---\n! connect to 127.0.0.1\n", "a.smtp:2: ! connect to 127.0.0.1: "),
        ("---\n! client\n", "no such stage direction"),
        ("---\n! later soon\n", "a.smtp:2: ! later soon: "),
        ("---\n! ban nobody reject\n", "a.smtp:2: ! ban nobody reject: "),
        (
            "---\nS: 220 *\nC: QUIT\nS: 221 *\nS: <closed>\nC*3: NOOP\n! hang up\n! client x\nS: 501 5.5.4 *\nS: 1\n",
            "came:",
        ),
        ('[[rule]]\nname = "r"\nstage = "dawn"\n---\nS: 220 *\n', 'a.smtp: [[rule]] "r" stage'),
        ("[smtp]\nmax_errors = 0\n---\nS: 220 *\n", "a.smtp: [smtp] max_errors"),
        ('[smtp.tls]\ncertificate = "x"\nkey = "x"\n---\nS: 220 *\n', "[smtp.tls] certificate"),
    ],
)
def test_a_script_that_makes_no_sense_fails(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(tmp_path, a=text, b="---\nS: 220 *\n")]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert out.endswith("2 scenes, 1 failed\n")


def test_a_configuration_that_cannot_be_used(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(config).write_text("[[rule]]\n", encoding="utf-8")
    assert main(["--config", config, written(tmp_path, a=SECOND_IS_TOO_MUCH)]) == 1
    assert f"{config}: " in capsys.readouterr().err


def test_where_there_is_no_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "nosuch.smtp"):
        assert main([str(path)]) == 1
        assert capsys.readouterr().err == f"{path}: no script, and no directory with *.smtp in it\n"


def test_nothing_of_one_scene_is_left_in_another(tmp_path: Path, config: str) -> None:
    again = "=== again\n" + SECOND_IS_TOO_MUCH
    assert main(["--config", config, written(tmp_path, a=SECOND_IS_TOO_MUCH + again)]) == 0


def test_a_script_with_a_configuration_leaves_the_given_one_out() -> None:
    (plain,) = parse("---\nS: 220 *", {"keys": {}})
    (own,) = parse("[smtp]\n[hop]\nlmtp = true\n---\nS: 220 *", {"keys": {}})
    (hop,) = parse("[hop]\nlmtp = true\n---\nS: 220 *", {"keys": {}})
    assert (plain.tables, plain.hop) == ({"keys": {}}, {})
    assert (own.tables, own.hop) == ({"smtp": {}}, {"lmtp": True})
    assert (hop.tables, hop.hop) == ({"keys": {}}, {"lmtp": True})


def test_the_command_shows_it_and_ends_with_its_status(tmp_path: Path, config: str) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        command = [str(Path(sys.executable).parent / "reputon"), "policy", "test", *words]
        environment = {**os.environ, "NO_COLOR": "1", "TZ": "Asia/Tokyo"}
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        return result.returncode, result.stdout, result.stderr

    at_midnight = '[[rule]]\nname = "r"\nstage = "mail"\nwhen = "hour == 0 && weekday == 6"\naction = "reject"\n'
    own = (
        at_midnight
        + "---\n! hello\nC: MAIL FROM:<a@example.com>\nS: 550 *\n! later 3600\n! deliver a@a.example b@b.example\n"
    )
    assert run(written(tmp_path, a=own))[0] == 0
    folder = written(tmp_path, a=SECOND_IS_TOO_MUCH)
    assert run(folder, "--config", config) == (0, f"pass  {folder}/a.smtp: first scene\n1 scenes, 0 failed\n", "")
    status, out, _ = run("-v", folder, "--config", config)
    assert (status, out.count("S: 451 4.7.1")) == (0, 1)
    written(tmp_path, b="---\nS: 554 *\n")
    status, out, _ = run(folder, "--config", config)
    assert (status, out.splitlines()[-1]) == (1, "2 scenes, 1 failed")
    assert run(str(tmp_path / "nosuch"), "--config", config)[::2] == (
        1,
        f"{tmp_path / 'nosuch'}: no script, and no directory with *.smtp in it\n",
    )
