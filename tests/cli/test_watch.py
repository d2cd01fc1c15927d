"""Asking again and again: each page in place of the last one, until Ctrl-C, which is no error."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from tests.cli.site_for_tests import BUSY, SECONDS, Site, fed, site_in
from tests.cli.terminals import at_terminal
from tests.servers import valkey_server

ENDS = "Ctrl-C ends"


@pytest.mark.parametrize("option", [("--watch",), ("-w", "0.2"), ("--watch=0.2",)])
def test_a_page_is_drawn_in_place_of_the_last_one_until_ctrl_c(site: Site, option: tuple[str, ...]) -> None:
    with at_terminal(site, "top", *option) as terminal:
        shown = terminal.until(ENDS, 3)
        assert shown.count("\x1b[2J") == 1, "the screen is cleared once, and drawn over from then on"
        assert shown.count("\x1b[H") >= 3
        assert shown.count(BUSY) >= 2
        assert terminal.interrupt() == 0
        assert "Traceback" not in terminal.shown
        assert "Aborted" not in terminal.shown


@pytest.mark.parametrize("command", [("status",), ("rules",), ("show", f"sender:{BUSY}"), ("suspects",)])
def test_what_people_keep_an_eye_on_can_be_watched(store_site: Site, command: tuple[str, ...]) -> None:
    with at_terminal(store_site, *command, "--watch", "0.2") as terminal:
        assert "every 0.2 s" in terminal.until(ENDS, 2)
        assert terminal.interrupt() == 0


def test_a_page_that_is_too_high_says_what_is_missing(store_site: Site) -> None:
    with at_terminal(store_site, "show", f"sender:{BUSY}", "-w", lines=12) as terminal:
        shown = terminal.until("more lines: without --watch there are all of them")
        page = shown.partition("\x1b[H")[2].partition("\x1b[J")[0]
        assert page.count("\n") <= 12
        assert terminal.interrupt() == 0


def test_where_nobody_looks_there_are_lines_of_json(store_site: Site) -> None:
    with store_site.started("top", "--n", "1", "--json", "--watch", "0.1") as process:
        assert process.stdout is not None
        read = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert {each["rows"][0]["entity"] for each in read} == {f"sender:{BUSY}"}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (0, "")


def test_a_store_that_goes_away_is_told_and_asked_again(tmp_path: Path) -> None:
    with valkey_server() as server:
        site = site_in(tmp_path, server, "gone")
        asyncio.run(fed(site))
        with at_terminal(site, "top", "--watch", "0.1") as terminal:
            terminal.until(BUSY)
            server.kill()
            terminal.until("asked again in 0.1 s")
            server.start()
            terminal.until("Nobody: nothing was counted then.")
            assert terminal.interrupt() == 0


def test_what_fails_at_once_is_not_asked_again(tmp_path: Path) -> None:
    with valkey_server() as server:
        site = site_in(tmp_path, server, "away")
    told = site.run("top", "--watch")
    assert (told.status, told.out) == (3, "")
    assert len(told.err.splitlines()) == 1


def test_colours_are_for_terminals(store_site: Site) -> None:
    assert "\x1b" not in store_site.run("rules").out
    with at_terminal(store_site, "rules") as terminal:
        assert terminal.wait() == 0
        assert re.search(r"\x1b\[\d", terminal.shown)
        assert "\x1b[2J" not in terminal.shown
