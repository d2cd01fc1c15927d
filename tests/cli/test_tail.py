"""Verdicts as they are given: one aligned line each, or a line of JSON, from the store and by the API."""

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest

from reputation.engine import Engine
from tests.cli.site_for_tests import BUSY, HELD, SECONDS, Site, send, working


def lines_of(process: "subprocess.Popen[str]", n: int) -> Iterator[str]:
    """The first lines that it prints."""
    assert process.stdout is not None
    for _ in range(n):
        yield process.stdout.readline()


def stopped(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Ctrl-C; exit status and what was printed on standard error."""
    process.send_signal(2)
    _, err = process.communicate(timeout=SECONDS)
    return process.returncode, err


async def until_seen(process: "subprocess.Popen[str]", engine: Engine, sender: str) -> str:
    """Send until the first line is there: it is not known when somebody has begun to listen."""
    line = asyncio.ensure_future(asyncio.to_thread(lambda: next(lines_of(process, 1))))
    async with asyncio.timeout(SECONDS):
        while not line.done():
            await send(engine, sender)
            await engine.upkeep.stream.tell()
            await asyncio.wait({line}, timeout=0.1)
    return line.result()


async def test_a_verdict_is_a_line_as_soon_as_it_is_given(site: Site) -> None:
    with site.started("tail", "--action", "accept", "--stage", "data", "--entity", "sender:new@example.org") as process:
        async with working(site) as engine:
            line = await until_seen(process, engine, "new@example.org")
        assert line[8:].startswith(" accept   data    no-rule       192.0.2.1       new@example.org > bob@example.net")
        assert await asyncio.to_thread(stopped, process) == (0, "")


def test_all_that_the_stream_remembers_as_json(site: Site) -> None:
    with site.started("tail", "--after", "0", "--json", "--rule", "user-messages") as process:
        read = [json.loads(line) for line in lines_of(process, 1)]
        assert [(each["user"], each["action"], each["rule"]) for each in read] == [
            (HELD, "tempfail", "user-messages"),
        ]
        assert stopped(process) == (0, "")


def test_one_goes_on_after_the_last_line_that_one_has(site: Site) -> None:
    with site.started("tail", "--after", "0", "--json") as process:
        first, second = (json.loads(line)["id"] for line in lines_of(process, 2))
    with site.started("tail", "--after", first, "--json") as process:
        assert [json.loads(line)["id"] for line in lines_of(process, 1)] == [second]


def test_lines_say_what_decided_and_what_would(site: Site) -> None:
    with site.started("tail", "--after", "0", "--entity", f"sender:{BUSY}", "--action", "tempfail") as process:
        (line,) = lines_of(process, 1)
    assert line[8:] == (
        f" tempfail mail    over-limit    192.0.2.7       {BUSY}  sender-messages sender:{BUSY} messages 20 of 20/1h  "
        "would: few-clients\n"
    )


@pytest.mark.parametrize("command", [("tail", "--after", "0"), ("export", "verdicts")])
def test_whoever_reads_no_more_ends_it_quietly(site: Site, command: tuple[str, ...]) -> None:
    with site.started(*command) as process:
        assert next(lines_of(process, 1))
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS) in {0, 1}
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_place_that_cannot_be_is_a_mistake(site: Site) -> None:
    told = site.run_here("tail", "--after", "nonsense")
    assert (told.status, told.out) == (1, "")
    assert "nonsense" in told.err
