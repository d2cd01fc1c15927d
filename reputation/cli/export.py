"""Rows into a CSV or Parquet file. The only door to pyarrow, which is loaded when Parquet is wanted.

A file is written as a whole or not at all, and can be read by its owner only, because it is about people. Columns have
the names that the JSON has; times are moments: ISO 8601 in CSV, timestamps in Parquet.

In CSV a text that begins with ``=``, ``+``, ``-`` or ``@`` gets an apostrophe in front: spreadsheets would take it for
a formula, and senders choose their names. Control characters are made visible, as in every table. Parquet holds all
texts as they are.
"""

import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol, get_type_hints

from reputation.cli.files import replacing
from reputation.cli.moments import iso
from reputation.errors import ConfigError
from reputation.replay.reading import visible

STANDARD_OUTPUT = Path("-")
TIMES = frozenset({"at", "created_at", "expires_at", "start"})
"""Columns whose numbers are seconds since the epoch."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a text begins with that a spreadsheet would calculate; the wide ones too."""
BETWEEN = " "
"""Between texts of one cell: no entity, rule or limit has a blank in it."""
ROWS_OF_A_GROUP = 10_000

Row = Mapping[str, object]


class Form(StrEnum):
    """The kinds of files."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a sheet."""

    name: str
    kind: Any
    """The type of its values: bool, int, float, str or a tuple of texts."""


class Sheet(Protocol):
    """A file that rows are put into, one after the other."""

    def put(self, row: Row) -> None:
        """Append a row; its values are named as the columns are."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


def columns_of(document: type[object], *without: str) -> tuple[Column, ...]:
    """The fields of a document as columns."""
    kinds = get_type_hints(document)
    return tuple(Column(each.name, kinds[each.name]) for each in fields(document) if each.name not in without)  # type: ignore[arg-type]  # a dataclass


@contextmanager
def sheet(form: Form, output: Path, columns: Sequence[Column]) -> Iterator[Sheet]:
    """A sheet that is in `output` when the block has ended well. Raises `ConfigError`."""
    with _opened(form, output) as file:
        made = Csv(file, columns) if form is Form.CSV else Parquet(file, columns)
        try:
            yield made
        finally:
            made.finish()  # what was broken off, too: nobody gets to see it


@contextmanager
def _opened(form: Form, output: Path) -> Iterator[IO[bytes]]:
    if output == STANDARD_OUTPUT:
        if form is Form.PARQUET and sys.stdout.isatty():
            raise ConfigError("Parquet is not for a terminal: name a file with --output, or write --format csv")
        with tempfile.TemporaryFile() if form is Form.PARQUET else nullcontext(sys.stdout.buffer) as file:
            yield file
            if file is not sys.stdout.buffer:  # half of it would look like all of it
                file.seek(0)
                shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    named = output.resolve()
    if named.exists() and not named.is_file():
        raise ConfigError(f"{output}: this is no file; - stands for standard output")
    try:
        with replacing(named) as new:
            yield new
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None


class Csv:
    """RFC 4180, in UTF-8."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._columns = columns
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        self._writer = csv.writer(self._text)
        self._writer.writerow([column.name for column in columns])

    def put(self, row: Row) -> None:
        """Append a row."""
        self._writer.writerow([_written(column.name, row[column.name]) for column in self._columns])

    def finish(self) -> None:
        """Let go of the file, which others close."""
        self._text.detach()


def _written(name: str, value: object) -> str:
    """A value as a cell.

    >>> _written("entity", "=cmd()"), _written("count", -1), _written("at", 0.0), _written("limits", ("1/1m", "9/1h"))
    ("'=cmd()", '-1', '1970-01-01T00:00:00.000Z', '1/1m 9/1h')
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return iso(value) if name in TIMES else str(value)
        case tuple():
            return _harmless(BETWEEN.join(map(str, value)))
        case _:
            return _harmless(str(value))


def _harmless(text: str) -> str:
    shown = visible(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


class Parquet:
    """Columns with types, compressed; a group of rows at a time."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        # Loading it takes a quarter of a second, and not every site has it.
        try:
            import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - ships no types; only for Parquet
            import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415 - only for Parquet, too
        except ImportError:
            raise ConfigError("Parquet needs the package pyarrow: pip install 'reputon[parquet]'") from None

        kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), tuple[str, ...]: pa.list_(pa.string())}
        moment = pa.timestamp("ms", tz="UTC")
        self._schema = pa.schema(
            [
                (column.name, moment if column.name in TIMES else kinds.get(column.kind, pa.float64()))
                for column in columns
            ]
        )
        self._table = pa.Table.from_pylist
        self._times = [column.name for column in columns if column.name in TIMES]
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, object]] = []

    def put(self, row: Row) -> None:
        """Append a row."""
        self._rows.append({**row, **{name: _moment(row[name]) for name in self._times}})
        if len(self._rows) >= ROWS_OF_A_GROUP:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the end of the file."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._table(self._rows, schema=self._schema))
        self._rows.clear()


def _moment(value: object) -> datetime | None:
    if not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):  # beyond any calendar
        return None
