"""Policies in Python behind the real front end: the example, mail that flows whatever they do, and SIGHUP."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reputation.config import Settings
from smtp_frontend.rehearsal.front_end import front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from smtp_frontend.rehearsal.script import parse
from smtp_frontend.rehearsal.stage import perform
from tests.servers import wait_until
from tests.smtp.programs import Program, config_of, running, send
from tests.smtp.programs import front_end as front_end_process

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "deploy" / "policies" / "no_boss_at_night.smtp"

POLICY = """
from reputation.python_policies import at, reject

@at("mail")
async def site_policy(event, facts):
    {line}
"""
PYTHON = '\n[[python]]\nfile = "site.py"\ndeadline_seconds = {deadline}\n'


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock of this machine shows UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def test_the_example(utc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scenes = parse(EXAMPLE.read_text(encoding="utf-8"))
    assert len(scenes) == 3
    for scene in scenes:
        await perform(scene, EXAMPLE.name)


@pytest.mark.parametrize(
    ("line", "deadline", "error"),
    [
        ("raise OSError('no route')", 5.0, "OSError"),
        ("await __import__('asyncio').Event().wait()", 0.02, "TimeoutError"),
    ],
)
async def test_mail_flows_whatever_a_policy_does(
    line: str, deadline: float, error: str, tmp_path: Path, hop: ScriptedHop
) -> None:
    file = tmp_path / "site.py"
    file.write_text(POLICY.format(line=line), encoding="utf-8")
    settings = Settings.model_validate({"python": [{"file": str(file), "deadline_seconds": deadline}]})
    async with front_end(settings, next_hop=hop.url) as mx, mx.client() as client:
        await client.greeting()
        for _ in range(2):
            for command, code in (
                ("HELO client.example.com", 250),
                ("MAIL FROM:<alice@example.com>", 250),
                ("RCPT TO:<bob@example.net>", 250),
                ("DATA", 354),
                ("Subject: hello\r\n\r\nhello\r\n.", 250),
            ):
                assert (await client.ask(command)).code == code, command
        assert mx.metric("reputon_function_failures_total", rule="site-policy", error=error) == 2
        (trace,) = mx.log.traces
        assert "the policy site-policy failed and has no opinion" in trace.getMessage()
    assert len(hop.received) == 2


def test_at_sighup_files_are_read_anew_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "front"
    directory.mkdir()
    file = directory / "site.py"

    def write(line: str) -> None:
        file.write_text(POLICY.format(line=line), encoding="utf-8")

    def reload(program: Program) -> None:
        told = len(program.lines("reloaded"))
        os.kill(program.pid, signal.SIGHUP)
        wait_until(lambda: len(program.lines("reloaded")) > told, "the files are read anew")

    write("return reject('550 5.7.1 Old')")
    config = config_of("memory:", limit="1000/1h") + PYTHON.format(deadline=5.0)
    with running(front_end_process(directory, config)) as program:
        assert send(program.port)[0].startswith("550 5.7.1 Old")
        write("return reject('550 5.7.1 New')")
        assert send(program.port)[0].startswith("550 5.7.1 Old"), "nobody has said that it is finished"
        reload(program)
        assert send(program.port)[0].startswith("550 5.7.1 New")
        write("return reject('550 5.7.1 Newer'")
        reload(program)
        assert "[[python]] site.py, line 6: '(' was never closed" in program.lines("not reloaded, the rules stay")[-1]
        assert send(program.port)[0].startswith("550 5.7.1 New")
        write("return None")
        reload(program)
        assert send(program.port)[0].startswith("250")
