"""How answers look: tables that cut nothing off, and text of strangers that a terminal cannot be harmed by.

A sender may call himself ``[red]`` or worse. So no text is ever read as markup, and what cannot be printed (escape
sequences, NUL, marks that turn the writing direction) is shown as ``\\x1b``, ``\\u202e`` and the like.

Colours are those that can be read on light and on dark: red for what is refused, magenta for what would be, green
for what is well, dim for what is beside the point.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reputation.replay.reading import visible
from reputation.verdict import Action

REFUSED, WOULD, WELL, BESIDE, TITLE = "red", "magenta", "green", "dim", "bold"
STYLE_OF = {
    Action.ACCEPT: WELL,
    Action.TAG: WOULD,
    Action.TARPIT: WOULD,
    Action.THROTTLE: REFUSED,
    Action.TEMPFAIL: REFUSED,
    Action.DISCARD: REFUSED,
    Action.REJECT: REFUSED,
}
assert STYLE_OF.keys() == set(Action)
GAP = 2
"""Between two columns."""
LITTLE = 8
"""A column of texts is folded to no less, where those of words are not folded at all."""
STEPS = " ▁▂▃▄▅▆▇█"
PARTS = " ▏▎▍▌▋▊▉█"

Cell = str | int | Text


def terminal() -> Console:
    """Where answers are printed."""
    return Console(markup=False, emoji=False, highlight=False)


def styled(text: str, style: str = "") -> Text:
    """A text as it is, whatever a stranger wrote into it."""
    return Text(visible(text), style=style)


def of_action(word: str) -> Text:
    """The name of an action, in its colour."""
    return styled(word, STYLE_OF.get(Action(word), "") if word in set(Action) else "")


def line(console: Console, text: str | Text, style: str = "") -> None:
    """Print a line as it is, however narrow the terminal."""
    console.print(text if isinstance(text, Text) else styled(text, style), soft_wrap=True)


def title(console: Console, text: str) -> None:
    """Print what stands above a part of an answer."""
    console.print()
    line(console, text, TITLE)


def note(text: str) -> None:
    """Tell the person who typed the command something that is no part of the answer."""
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr)


def printable(*streams: TextIO) -> None:
    """Have what a terminal's character set lacks escaped, instead of an error."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def table(*headings: str | Column) -> Table:
    """A table whose rows go in by `add_row`. A heading alone is that of texts, which are folded where they must be."""
    columns = (heading if isinstance(heading, Column) else _column(heading) for heading in headings)
    return Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def number(heading: str) -> Column:
    """A column of numbers."""
    return _column(heading, justify="right", no_wrap=True)


def word(heading: str) -> Column:
    """A column of short words, which are not folded if there is room."""
    return _column(heading, no_wrap=True)


def named(heading: str) -> Column:
    """A column of names or sentences, which get more of the room than other texts."""
    return _column(heading, ratio=2)


def _column(heading: str, **more: Any) -> Column:
    return Column(styled(heading), overflow="fold", **more)


def add_row(rows: Table, *cells: Cell, style: str = "") -> None:
    """Add a row as it is; numbers get separators."""
    rows.add_row(*map(_shown, cells), style=style)


def show_table(console: Console, rows: Table) -> None:
    """Print a table so that nothing of it is cut off: where there is little room, texts are folded."""
    columns, room = rows.columns, console.width - GAP * (len(rows.columns) - 1)
    natural = [_natural(column) for column in columns]
    whole = [column.no_wrap for column in columns]
    needed = sum(width if is_whole else min(width, LITTLE) for width, is_whole in zip(natural, whole, strict=True))
    if needed > room:
        whole = [False] * len(columns)
    shares = [0 if is_whole else column.ratio or 1 for column, is_whole in zip(columns, whole, strict=True)]
    for column, width in zip(columns, widths_of(natural, shares, room), strict=True):
        column.width, column.no_wrap, column.ratio = width, False, None
    console.print(rows)


def _natural(column: Column) -> int:
    """How wide a column is when nothing is folded."""
    return max(cell.cell_len for cell in (column.header, *column.cells) if isinstance(cell, Text))


def widths_of(natural: Sequence[int], shares: Sequence[int], room: int) -> list[int]:
    """How wide columns are in so much room: those without a share as they are, the others by theirs of what is left.

    >>> widths_of([5, 30, 30], [0, 1, 2], 100), widths_of([5, 30, 30], [0, 1, 2], 35)
    ([5, 30, 30], [5, 10, 20])
    """
    widths = list(natural)
    folded = [place for place, share in enumerate(shares) if share]
    left = room - sum(width for width, share in zip(natural, shares, strict=True) if not share)
    while folded:
        unit = left / sum(shares[place] for place in folded)
        fitting = [place for place in folded if natural[place] <= unit * shares[place]]
        for place in fitting:
            left -= natural[place]
            folded.remove(place)
        if not fitting:
            for place in folded:
                widths[place] = max(1, int(unit * shares[place]))
            break
    return widths


def _shown(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(f"{cell:,}") if isinstance(cell, int) else styled(cell)


def bars(counts: Iterable[int]) -> str:
    """Counts as a row of bars; what is there at all can be seen.

    >>> bars([0, 1, 50, 100])
    ' ▁▄█'
    """
    numbers = list(counts)
    most = max(numbers, default=0) or 1
    return "".join(STEPS[min(8, max(count * 8 // most, count > 0))] for count in numbers)


def bar(count: int, most: int, width: int) -> str:
    """A count as a bar that lies down.

    >>> bar(5, 10, 4), bar(1, 1_000, 4), bar(0, 10, 4)
    ('██', '▏', '')
    """
    eighths = max(count * width * 8 // max(most, 1), count > 0)
    return (PARTS[-1] * (eighths // 8) + PARTS[eighths % 8]).strip()


def print_json(document: object) -> None:
    """Print a document, or plain values, as one JSON object."""
    print(json.dumps(plain(document), indent=2))


def print_json_line(document: object) -> None:
    """Print a document as one line of JSON, at once."""
    print(json.dumps(plain(document)), flush=True)


def plain(document: object) -> object:
    """A document as plain values."""
    return asdict(document) if is_dataclass(document) and not isinstance(document, type) else document
