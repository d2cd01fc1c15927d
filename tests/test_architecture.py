"""The house rules that a machine can hold: who imports whom, how large things are, what must carry a reason.

Sizes are lines of code: docstrings, comments and blank lines are free, so that nobody saves on explanation.
A function includes what is nested in it.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reputation", "smtp_frontend", "api")
CODE = (*PACKAGES, "tests", "benchmarks")

FUNCTION_AIM, FUNCTION_STOP = 25, 60
MODULE_AIM, MODULE_STOP = 250, 400

LONG_FUNCTIONS = frozenset(
    {
        "reputation/metrics.py::Metrics.__init__",
        "reputation/policy.py::Policy._verdict",
    }
)
"""``path::Class.function`` above the aim. This list only gets shorter: split the function instead of adding it."""
LONG_MODULES = frozenset({"smtp_frontend/session.py"})
"""Paths above the aim. This list only gets shorter: split the module instead of adding it."""

NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "shared", "util", "utils"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@lru_cache
def source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(source(path))


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def none_of(mistakes: list[str]) -> None:
    """Fail with the whole list, one mistake a line."""
    assert not mistakes, "\n" + "\n".join(mistakes)


# Sizes


NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> set[int]:
    """The numbers of the lines that hold code: no blank line, no comment, no text that only documents."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, Function | ast.ClassDef):
            name = f"{within}.{child.name}".lstrip(".")
        if isinstance(child, Function):
            yield name, child
        yield from functions(child, name)


def function_sizes() -> dict[str, int]:
    sizes = {}
    for path in modules(*PACKAGES):
        lines = code_lines(source(path))
        for name, node in functions(tree(path)):
            assert node.end_lineno is not None
            sizes[f"{relative(path)}::{name}"] = len(lines & set(range(node.lineno, node.end_lineno + 1)))
    return sizes


def module_sizes() -> dict[str, int]:
    return {relative(path): len(code_lines(source(path))) for path in modules(*PACKAGES)}


def unallowed(sizes: dict[str, int], allowed: frozenset[str], aim: int, stop: int) -> list[str]:
    """What is wrong with `sizes`, and with the list of exceptions."""
    mistakes = []
    for name, size in sizes.items():
        if size > stop:
            mistakes.append(f"{name} has {size} lines of code, {stop} is the hard stop: split it")
        elif size > aim and name not in allowed:
            mistakes.append(f"{name} has {size} lines of code, aim at {aim}: split it")
    unneeded = sorted(name for name in allowed if sizes.get(name, 0) <= aim)
    where = Path(__file__).name
    return mistakes + [f"{name} is no exception any more: remove it from the list in {where}" for name in unneeded]


@pytest.mark.parametrize(
    ("sizes", "allowed", "aim", "stop"),
    [
        pytest.param(function_sizes, LONG_FUNCTIONS, FUNCTION_AIM, FUNCTION_STOP, id="functions"),
        pytest.param(module_sizes, LONG_MODULES, MODULE_AIM, MODULE_STOP, id="modules"),
    ],
)
def test_sizes(sizes: Callable[[], dict[str, int]], allowed: frozenset[str], aim: int, stop: int) -> None:
    assert sizes()
    none_of(unallowed(sizes(), allowed, aim, stop))


def test_the_ratchet_only_turns_one_way() -> None:
    allowed = frozenset({"was-long", "gone", "long", "huge"})
    mistakes = unallowed({"short": 5, "new": 11, "was-long": 10, "long": 15, "huge": 21}, allowed, aim=10, stop=20)
    assert [mistake.split()[0] for mistake in mistakes] == ["new", "huge", "gone", "was-long"]


def test_prose_is_no_code() -> None:
    text = '''"""A module.

Long.
"""

x = (  # why
    1
)
"""About x."""


def f():
    """Say."""
    # then
    return """a
b"""
'''
    assert code_lines(text) == {6, 7, 8, 12, 15, 16}


# Imports and names


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([program, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_module_names_say_what_is_inside() -> None:
    named = {relative(path): path.stem if path.stem != "__init__" else path.parent.name for path in modules(*CODE)}
    none_of([path for path, name in named.items() if name.strip("_") in NAMES_THAT_SAY_NOTHING])


def test_every_module_opens_with_a_docstring() -> None:
    bare = [relative(path) for path in modules(*CODE) if tree(path).body and not ast.get_docstring(tree(path))]
    empty = [relative(path) for path in modules(*PACKAGES) if not tree(path).body]
    none_of(bare + empty)


# What needs a reason beside it


def test_only_the_command_prints() -> None:
    """A program that tells its supervisor something says so beside the print, for ruff too."""
    printing = [
        f"{relative(path)}:{node.lineno}"
        for path in modules(*PACKAGES)
        if not relative(path).startswith("reputation/cli/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if "noqa: T201" not in source(path).splitlines()[node.lineno - 1]
    ]
    none_of(printing)


class Mistake(NamedTuple):
    line: int
    text: str


def broad_excepts(text: str) -> list[Mistake]:
    """``except`` clauses that swallow everything, without a comment on their line or the line above.

    One that ends in a plain ``raise`` swallows nothing.
    """
    commented = {line for line, _ in comments(text)}
    return [
        Mistake(node.lineno, "catches everything and does not say why")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node.type)
        if not commented & {node.lineno, node.lineno - 1} and not raises_again(node)
    ]


def raises_again(clause: ast.ExceptHandler) -> bool:
    last = clause.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def catches_everything(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(catches_everything(one) for one in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"})


IGNORE = re.compile(r"#\s*(?P<kind>type:\s*ignore|noqa|pragma)", re.IGNORECASE)
REASONED = re.compile(
    r"#\s*(type:\s*ignore\[[\w-]+(\s*,\s*[\w-]+)*\]|noqa:\s*[A-Z]+\d+([\s,]+[A-Z]+\d+)*|pragma:\s*no cover)"
    r"\s*(#|-|:)+\s*\w+.*\s\w+"
)


def bare_ignores(text: str) -> list[Mistake]:
    """Comments that silence a tool without naming the code, or without a reason of at least two words."""
    return [
        Mistake(line, f"{comment}: name the code and give the reason")
        for line, comment in comments(text)
        if IGNORE.search(comment) and not REASONED.search(comment)
    ]


@pytest.mark.parametrize("find", [broad_excepts, bare_ignores])
def test_exceptions_to_a_rule_give_their_reason(find: Callable[[str], list[Mistake]]) -> None:
    none_of([f"{relative(path)}:{line}: {text}" for path in modules(*CODE) for line, text in find(source(path))])


def test_a_reason_is_seen_where_there_is_one() -> None:
    assert broad_excepts("try:\n    f()\nexcept Exception:  # the session ends here\n    pass\n") == []
    assert broad_excepts("try:\n    f()\n# the session ends here\nexcept (OSError, Exception):\n    pass\n") == []
    assert broad_excepts("try:\n    f()\nexcept BaseException:\n    g()\n    raise\n") == []
    assert bare_ignores("import x  # noqa: F401 - others import it from here\n") == []
    assert bare_ignores("x = y()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped\n") == []


@pytest.mark.parametrize("clause", ["except:", "except Exception:", "except (OSError, BaseException) as error:"])
def test_a_broad_except_without_a_reason_is_found(clause: str) -> None:
    assert [line for line, _ in broad_excepts(f"try:\n    f()\n{clause}\n    pass\n")] == [3]


@pytest.mark.parametrize(
    "comment",
    ["# noqa", "# noqa: F401", "# noqa: F401 -", "# type: ignore", "# type: ignore[arg-type]", "# type: ignore  # why"],
)
def test_an_ignore_without_code_or_reason_is_found(comment: str) -> None:
    assert [line for line, _ in bare_ignores(f"x = 1\ny = 2  {comment}\n")] == [2]
