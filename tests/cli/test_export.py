"""CSV and Parquet: the same rows, typed, whole or not at all, and nothing that a spreadsheet would calculate."""

import csv
import io
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from reputation.cli.export import FORMULA, Column, Form, sheet
from tests.cli.site_for_tests import BUSY, HELD, HOSTILE, REPUTON, SECONDS, Site
from tests.cli.terminals import at_terminal
from tests.cli.test_hostile import harmful

Row = TypeVar("Row", bound=Mapping[str, Any])

WHAT = (("top",), ("entries",), ("audit",), ("series", f"sender:{BUSY}"), ("verdicts",))


def of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def of_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("what", WHAT, ids=lambda what: what[0])
def test_both_forms_have_the_same_rows(store_site: Site, what: tuple[str, ...], tmp_path: Path) -> None:
    told = store_site.run("export", *what)
    assert (told.status, told.err) == (0, "")
    lines = steady(of_csv(told.out))
    file = tmp_path / "out.parquet"
    told = store_site.run("export", *what, "--format", "parquet", "--output", file)
    assert (told.status, told.out) == (0, "")
    assert told.err.startswith(f"{file}: ")
    rows = steady(of_parquet(file))
    assert len(rows) == len(lines) > 0
    assert list(rows[0]) == list(lines[0])
    for line, row in zip(lines, rows, strict=True):
        for name, value in row.items():
            assert told_apart(line[name]) == told_apart(value), name


@pytest.mark.parametrize("what", WHAT, ids=lambda what: what[0])
def test_the_api_has_the_same_rows(store_site: Site, api_site: Site, what: tuple[str, ...]) -> None:
    """The token of these tests was made after all verdicts, and stands in the audit for both."""
    rows = [steady(of_csv(site.run("export", *what).out)) for site in (store_site, api_site)]
    assert rows[0] == rows[1] != []


def steady(rows: list[Row]) -> list[Row]:
    """Those rows that are the same a moment later: stretches in which nothing was counted move on."""
    return [row for row in rows if row.get("window") != "5m" and str(row.get("count")) != "0"]


def told_apart(value: object) -> object:
    """A value of either form in one form."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1_000:03}Z"
        case list():
            return " ".join(value)
        case _:
            return str(value).removeprefix("'")


def test_rows_say_what_they_are_about(site: Site) -> None:
    first = of_csv(site.run("export", "top", "--n", "1").out)[0]
    said = {"dimension": "sender", "metric": "messages", "window": "1h", "at": "", "banned": "false"}
    assert first == {**said, "entity": f"sender:{BUSY}", "count": "20"}
    (entry,) = of_csv(site.run("export", "entries", "--kind", "ban", "--matching", HELD).out)
    assert (entry["id"], entry["author"]) == (f"ban|user:{HELD}", "rule user-messages")
    moment = datetime.fromisoformat(entry["expires_at"]) - datetime.fromisoformat(entry["created_at"])
    assert moment.total_seconds() == 3_600


def test_no_cell_is_a_formula_and_none_harms_a_terminal(store_site: Site) -> None:
    told = store_site.run("export", "verdicts")
    assert harmful(told.out.replace("\r\n", "\n")) == set()
    rows = of_csv(told.out)
    senders = {row["sender"] for row in rows}
    assert "'=cmd|'%20/c%20calc'!a0@example.com" in senders
    assert len(senders) >= len(HOSTILE)
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULA)]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "=\r1", '=HYPERLINK("x")'])
def test_a_text_that_would_be_calculated_gets_an_apostrophe(text: str, tmp_path: Path) -> None:
    with sheet(Form.CSV, tmp_path / "x.csv", (Column("text", str), Column("texts", tuple[str, ...]))) as rows:
        rows.put({"text": text, "texts": (text, text)})
    (line,) = of_csv((tmp_path / "x.csv").read_text(encoding="utf-8"))
    assert line["text"].startswith(f"'{text[0]}")
    assert line["texts"].startswith(f"'{text[0]}")
    with sheet(Form.PARQUET, tmp_path / "x.parquet", (Column("text", str),)) as rows:
        rows.put({"text": text})
    assert of_parquet(tmp_path / "x.parquet") == [{"text": text}]


def test_an_empty_file_has_its_columns(store_site: Site, tmp_path: Path) -> None:
    nobody = ("series", "sender:nobody@example.org")
    assert store_site.run("export", *nobody).out == "entity,metric,window,rule,bucket_seconds,start,count\n"
    file = tmp_path / "empty.parquet"
    store_site.run("export", *nobody, "-f", "parquet", "-o", file)
    schema = pq.read_table(file).schema
    assert [str(kind) for kind in schema.types[-2:]] == ["timestamp[ms, tz=UTC]", "int64"]


def test_a_file_is_replaced_as_a_whole_and_is_its_owner_s(store_site: Site, tmp_path: Path) -> None:
    file = tmp_path / "top.csv"
    assert store_site.run("export", "top", "-o", file).status == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    file.write_text("old", encoding="utf-8")
    assert store_site.run("export", "top", "--metric", "nonsense", "-o", file).status == 1
    assert file.read_text(encoding="utf-8") == "old"
    assert store_site.run("export", "top", "-o", file).status == 0
    assert of_csv(file.read_text(encoding="utf-8"))[0]["entity"] == f"sender:{BUSY}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file], "nothing is left beside it"


def test_what_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_text("old", encoding="utf-8")
    with suppress(KeyError), sheet(Form.PARQUET, file, (Column("text", str),)) as rows:
        rows.put({"text": "new"})
        raise KeyError
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("output", "said"),
    [("/dev/null", "no file"), ("/nowhere/x.csv", "No such file or directory"), (".", "no file")],
)
def test_where_nothing_can_be_written_it_says_so(store_site: Site, output: str, said: str) -> None:
    told = store_site.run("export", "top", "--output", output)
    assert (told.status, told.out) == (1, "")
    assert said in told.err
    assert len(told.err.splitlines()) == 1


def test_parquet_is_not_for_a_terminal_and_csv_may_be(store_site: Site) -> None:
    with at_terminal(store_site, "export", "top", "--format", "parquet") as terminal:
        assert terminal.wait() == 1
        assert "--output" in terminal.shown
        assert "PAR1" not in terminal.shown
    with at_terminal(store_site, "export", "top") as terminal:
        assert terminal.wait() == 0
        assert f"sender:{BUSY},20,false" in terminal.shown


def test_parquet_may_be_piped(store_site: Site, tmp_path: Path) -> None:
    command = [str(REPUTON), "export", "top", "-f", "parquet"]
    octets = subprocess.run(
        command, env=store_site.surroundings(), stdout=subprocess.PIPE, timeout=SECONDS, check=True
    ).stdout
    (tmp_path / "x.parquet").write_bytes(octets)
    assert of_parquet(tmp_path / "x.parquet")[0]["entity"] == f"sender:{BUSY}"
