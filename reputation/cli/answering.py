"""Asking a desk once, or again and again, and printing what it says."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from reputation.cli.desks import Where, opened_desk
from reputation.cli.moments import clock
from reputation.cli.printing import BESIDE, line, note, print_json, print_json_line, terminal
from reputation.desk.contract import Desk
from reputation.errors import ApiError, Refused, StoreError

T = TypeVar("T")
Ask = Callable[[Desk], Awaitable[T]]
Show = Callable[[Console, T, float], None]
"""Prints an answer for a person; the time is now, in seconds since the epoch."""

HOME, CLEAR_ALL, CLEAR_BELOW, CLEAR_TO_END = "\x1b[H", "\x1b[2J", "\x1b[J", "\x1b[K"


def answer(where: Where, ask: Ask[T], show: Show[T], *, as_json: bool = False, watch: float | None = None) -> None:
    """Ask, and print the answer: once, or every `watch` seconds until Ctrl-C. Raises `ReputonError`."""
    if watch is None:
        _print(asyncio.run(asked(where, ask)), show, as_json=as_json)
    else:
        with suppress(KeyboardInterrupt):  # how it is meant to end
            asyncio.run(_watched(where, ask, show, as_json=as_json, pause=watch))


async def asked(where: Where, ask: Ask[T]) -> T:
    """What one desk says."""
    async with opened_desk(where) as desk:
        return await ask(desk)


def _print(document: T, show: Show[T], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        show(terminal(), document, time.time())


async def _watched(where: Where, ask: Ask[T], show: Show[T], *, as_json: bool, pause: float) -> None:
    """Ask again and again. What fails once it has worked is told, and asked again."""
    console, worked = terminal(), False
    async with opened_desk(where, following=True) as desk:
        while True:
            try:
                document = await ask(desk)
            except (StoreError, ApiError) as error:
                if not worked or isinstance(error, Refused):
                    raise
                note(f"{clock(time.time())} UTC: {error}; asked again in {pause:g} s")
            else:
                if as_json:
                    print_json_line(document)
                else:
                    _draw(console, partial(_page, console, document, show, pause), is_first=not worked)
                worked = True
            await asyncio.sleep(pause)


def _page(console: Console, document: T, show: Show[T], pause: float) -> None:
    now = time.time()
    line(console, f"{clock(now)} UTC, every {pause:g} s; Ctrl-C ends", BESIDE)
    show(console, document, now)


def _draw(console: Console, page: Callable[[], None], *, is_first: bool) -> None:
    """Print a page in place of the one before, as far as the terminal is high; one after the other where it is none."""
    if not console.is_terminal:
        page()
        return
    with console.capture() as captured:
        page()
    lines = captured.get().splitlines()
    fitting = _fitting(lines, console.width, console.height - 2)
    if fitting < len(lines):
        lines[fitting:] = [f"... and {len(lines) - fitting} more lines: without --watch there are all of them"]
    start = CLEAR_ALL + HOME if is_first else HOME
    console.file.write(start + "".join(f"{each}{CLEAR_TO_END}\n" for each in lines) + CLEAR_BELOW)
    console.file.flush()


def _fitting(lines: Sequence[str], width: int, height: int) -> int:
    """How many of the lines fit, of which long ones take several of the terminal's."""
    taken = accumulate(max(1, -(-Text.from_ansi(each).cell_len // width)) for each in lines)
    return sum(so_far <= height for so_far in taken)
