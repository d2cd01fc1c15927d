"""The documents say what the code does: every setting, word and number is there, and nothing that does not exist."""

import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer._click import Command
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from reputation import cli
from reputation.bookkeeping import LEARNED
from reputation.charges import Charging
from reputation.cli.app import app
from reputation.conditions import FUNCTIONS
from reputation.config import PythonSettings, Settings
from reputation.config_files import load
from reputation.events import Stage
from reputation.keys import Dimension, Metric
from reputation.log_lines import FIELDS
from reputation.metrics import Metrics
from reputation.python_policies import load_functions
from reputation.rule_settings import MAX_REPLY_LENGTH
from reputation.rules import COSTS, REPLY_FIELDS, Mode, OnStoreFailure
from reputation.store.node import PERMISSIONS
from reputation.verdict import Action, Reason
from reputation.vocabulary import FACTS
from reputation.windows import MAX_WINDOW_SECONDS

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {"data", "dist", "node_modules"}
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

Row = list[str]


# Reading Markdown


def sections(text: str) -> dict[str, str]:
    """Heading -> what stands under it up to the next heading, without code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^#+ +(.+)$", prose, flags=re.MULTILINE)
    return dict(zip([heading.replace("`", "") for heading in parts[1::2]], parts[2::2], strict=True))


def rows(heading: str) -> dict[str, Row]:
    """First cell -> the other cells, of the first table under a heading of the page."""
    table = re.search(r"(?:^\|.*\n)+", sections(PAGE)[heading], flags=re.MULTILINE)
    assert table is not None, f"no table under {heading}"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]
    return {line[0].strip("`"): line[1:] for line in lines}


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


# Settings


def tables(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, dict[str, FieldInfo]]]:
    """Heading -> settings, for every table of the configuration."""
    plain = {}
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if is_table(one)]
        if not inner:
            plain[name] = field
        elif field.annotation is not inner[0] and type(field.default) is tuple:
            yield from tables(inner[0], f"[[{name}]]")
        else:
            yield from tables(inner[0], f"[{path.strip('[]')}.{name}]".replace("[.", "["))
    if plain:
        yield path, plain


def is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


TOP = "Policy files"
"""The heading of what stands above all tables."""
TABLES = {heading or TOP: settings for heading, settings in tables(Settings)}


def test_the_tables_are_found() -> None:
    named = {
        "store",
        "keys",
        "smtp",
        "smtp.tls",
        "smtp.auth",
        "policy_service",
        "api",
        "api.tls",
        "register",
        "lookups",
        "log",
    }
    arrays = {"filter", "list", "python", "rule"}
    assert set(TABLES) == {TOP, *(f"[{name}]" for name in named), *(f"[[{name}]]" for name in arrays)}


@pytest.mark.parametrize("table", TABLES)
def test_settings(table: str) -> None:
    assert list(rows(table)) == list(TABLES[table]), f"{table}: the page and reputation.config differ"


@pytest.mark.parametrize("table", TABLES)
def test_defaults(table: str) -> None:
    for name, (default, *_) in rows(table).items():
        field = TABLES[table][name]
        assert default_of(default) == ("required" if field.is_required() else field.default), f"{table} {name}"


def default_of(cell: str) -> object:
    if cell == "all":
        return tuple(Dimension)
    if cell == "required":
        return cell
    value = tomllib.loads(f"value = {cell.strip('`')}")["value"]
    return tuple(value) if isinstance(value, list) else value


def test_no_other_heading_looks_like_a_table() -> None:
    assert {heading for heading in sections(PAGE) if heading.startswith("[")} == set(TABLES) - {TOP}


@pytest.mark.parametrize("text", code_blocks(PAGE, "toml"))
def test_examples_can_be_loaded(text: str, tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(text, encoding="utf-8")
    load(file)


@pytest.mark.parametrize("file", sorted((ROOT / "deploy").glob("*.toml")), ids=lambda path: path.name)
def test_the_files_in_deploy_can_be_loaded(file: Path) -> None:
    load(file)


# Words


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Stages", Stage),
        ("Dimensions", Dimension),
        ("Actions", Action),
        ("Modes", Mode),
        ("Charging", Charging),
        ("When the store is away", OnStoreFailure),
        ("Reasons", Reason),
    ],
)
def test_words(heading: str, words: type[StrEnum]) -> None:
    assert list(rows(heading)) == list(words)


def test_counts() -> None:
    assert list(rows("Counts")) == [*Metric, "distinct(DIMENSION)"]


def test_permissions() -> None:
    assert f"`{PERMISSIONS}`" in PAGE


def test_the_example_in_python_puts_a_ban_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reputon.toml").write_text('[store]\nurl = "memory:"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example, _ = code_blocks(PAGE, "python")
    exec(example, {})
    assert capsys.readouterr().out == "put ban|ip:192.0.2.0/24 eve spam run\n"


def test_the_policy_in_python_can_be_loaded(tmp_path: Path) -> None:
    _, policy = code_blocks(PAGE, "python")
    (tmp_path / "site.py").write_text(policy, encoding="utf-8")
    [function] = load_functions([PythonSettings(file=str(tmp_path / "site.py"))])
    assert function.name == "no-boss-at-night"


def test_every_directory_of_tests_is_told() -> None:
    said = set(re.findall(r"^\* `tests/(\w+)`:", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert said == {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}


def test_reply_fields() -> None:
    assert set(rows("Replies")) == REPLY_FIELDS


def test_facts() -> None:
    said = {name: (cells[0], cells[1]) for name, cells in rows("Conditions").items()}
    known = {}
    for name, fact in FACTS.items():
        first = fact.stages[0]
        known[name] = (fact.meaning, f"from {first} on" if len(fact.stages) > 1 else first.value)
        assert len(fact.stages) in {1, len(Stage) - 1 - list(Stage).index(first)}
    assert said == known
    assert ", ".join(f"`{name}`" for name in FUNCTIONS) in " ".join(sections(PAGE)["Conditions"].split())


def test_where_a_count_can_be_limited() -> None:
    said = {name: cells[1] for name, cells in rows("Counts").items()}
    counted = {
        metric.value: ", ".join(stage for stage in Stage if (stage, metric) in COSTS)
        for metric in Metric
        if metric not in LEARNED.values()
    }
    anywhere = {metric.value: "any" for metric in (*LEARNED.values(), Metric.CONCURRENT)}
    assert said == counted | anywhere | {"distinct(DIMENSION)": "any that knows the dimension"}


def test_bounds() -> None:
    assert f"{MAX_WINDOW_SECONDS // 86_400} days" in sections(PAGE)["Limits"]
    assert f"at most {MAX_REPLY_LENGTH} characters" in sections(PAGE)["Replies"]


def test_metrics() -> None:
    metrics = Metrics()
    names = {
        family.name: f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
    }
    labels = {
        names[metric._name]: ", ".join(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    assert {name: cells[0] for name, cells in rows("Metrics").items()} == labels


def test_names_of_log_lines_in_json() -> None:
    said = {key: cells[0].strip("`") for key, cells in rows("Log lines in JSON").items()}
    assert list(said.items()) == [(key, field.name) for key, field in FIELDS.items()]


# The command


def test_commands_and_their_options() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    offered = {
        name: {option.opts[0] for option in each.params if isinstance(option, TyperOption)}
        for name, each in commands_of(command)
    }
    said = {
        re.sub(r"^reputon | [A-Z.]+", "", name): options_in(cells[0]) for name, cells in rows("The command").items()
    }
    assert said == offered


def options_in(cell: str) -> set[str]:
    """Those that a cell names, one by one or by the heading that they are explained under."""
    named = set(re.findall(r"--[a-z-]+", cell))
    return named | set(rows("Whom it asks")) if "(#whom-it-asks)" in cell else named


def commands_of(group: TyperGroup, path: str = "") -> Iterator[tuple[str, Command]]:
    for name, each in group.commands.items():
        if isinstance(each, TyperGroup):
            yield from commands_of(each, f"{path}{name} ")
        if not isinstance(each, TyperGroup) or each.invoke_without_command:
            yield f"{path}{name}", each


def test_variables_of_the_command() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    said = {name: cells[0].strip("`") for name, cells in rows("Whom it asks").items()}
    for name, each in commands_of(command):
        known = {option.opts[0]: option.envvar for option in each.params if isinstance(option, TyperOption)}
        assert {option: variable for option, variable in known.items() if variable}.items() <= said.items(), name


def test_exit_status() -> None:
    ours = {str(value) for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert set(rows("Exit status")) == {"0", "2"} | ours


# Links and versions


def pages() -> list[Path]:
    found = [path for path in ROOT.rglob("*.md") if not path.is_symlink()]
    return sorted(
        path for path in found if not any(p in NOT_OURS or p.startswith(".") for p in path.relative_to(ROOT).parts)
    )


def anchors(path: Path) -> set[str]:
    """The names that headings can be linked by: lower case, without punctuation, hyphens for spaces."""
    headings = sections(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(path: Path, root: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file, _, anchor = target.partition("#")
        where = (path.parent / file).resolve() if file else path
        if not where.exists() or not where.is_relative_to(root):
            yield f"{target}: there is no such file"
        elif anchor and anchor not in anchors(where):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    assert list(broken_links(path, ROOT)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](gone.md) [d](https://example.net/)\n", encoding="utf-8")
    assert list(broken_links(page, tmp_path)) == ["#two: there is no such heading", "gone.md: there is no such file"]


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## +(\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
