"""Reading the configuration: one TOML file, and the policy files that it includes.

All mistakes are reported with their file; an included file holds rules and lists only. ``[change.NAME]`` of the first
file changes a rule of an included one.

Shares the door to pydantic with `reputation.config`.
"""

import glob
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from reputation.config import BUILT_IN, ListSettings, Settings
from reputation.errors import ConfigError
from reputation.mistakes import mistakes_of
from reputation.rule_settings import RuleSettings, Table


class PolicyFile(Table):
    """What an included file may hold."""

    list_: Annotated[tuple[ListSettings, ...], Field(strict=False, alias="list")] = ()
    rule: Annotated[tuple[RuleSettings, ...], Field(strict=False)] = ()


def policies_path() -> Path:
    """Where the policy files are that come with reputon."""
    return Path(__file__).parent / "policies"


def load(path: Path) -> Settings:
    """Read a configuration file, and what it includes. Raises `ConfigError` with one line per mistake."""
    return settings_in(_tables(path), path)


def settings_in(tables: dict[str, Any], path: Path) -> Settings:
    """The settings in the tables of a file, and in what it includes. Raises `ConfigError`."""
    settings = _validated(Settings, path, tables)
    try:
        included = [(file, _included(file)) for file in _files(path, settings.include)]
        settings = settings.model_copy(
            update={
                "list_": (*(each for _, found in included for each in found.list_), *settings.list_),
                "rule": (*_changed(settings, included), *settings.rule),
            }
        )
        settings.policy()
        settings.never_ban()
    except _InFile as error:
        raise ConfigError(str(error)) from None
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return settings


class _InFile(ConfigError):
    """A mistake whose text names its file."""


T = TypeVar("T", bound=Table)


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _InFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _InFile(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise _InFile(f"{path}: is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise _InFile(f"{path}: is not valid TOML: {error}") from None


def _validated(model: type[T], path: Path, tables: dict[str, Any]) -> T:
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise _InFile("\n".join(f"{path}: {line}" for line in mistakes_of(error.errors(), tables))) from None


def _files(path: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """The files that are included, those of one pattern by their names."""
    for pattern in patterns:
        if pattern in BUILT_IN:
            yield policies_path() / f"{pattern}.toml"
            continue
        whole = Path(glob.escape(str(path.parent.absolute()))) / pattern
        found = sorted(glob.glob(str(whole))) if pattern else []  # noqa: PTH207 - passes over hidden files
        if not found:
            where = f"in {path.parent}; write a path from there, or one of {', '.join(BUILT_IN)}"
            raise ConfigError(f'include: there is no file "{pattern}" {where}')
        yield from map(Path, found)


def _included(file: Path) -> PolicyFile:
    tables = _tables(file)
    if others := sorted(tables.keys() - {"list", "rule"}):
        raise _InFile(f"{file}: [{others[0]}]: an included file holds [[rule]] and [[list]] only")
    found = _validated(PolicyFile, file, tables)
    for settings in found.rule:
        try:
            settings.rule()
        except ConfigError as error:
            raise _InFile(f'{file}: [[rule]] "{settings.name}" {error}') from None
    return found


def _changed(settings: Settings, included: Iterable[tuple[Path, PolicyFile]]) -> Iterator[RuleSettings]:
    """The rules of included files, with what the site has changed of them."""
    rules = {rule.name: rule for _, found in included for rule in found.rule}
    if unknown := sorted(settings.change.keys() - rules.keys()):
        known = ", ".join(rules) or "none"
        raise ConfigError(f"[change.{unknown[0]}]: no included file has a rule of that name; there are: {known}")
    for _, found in included:
        for rule in found.rule:
            change = settings.change.get(rule.name, {})
            try:
                if "name" in change:
                    raise ConfigError("name: a rule keeps its name, which names its counters")
                fresh = (
                    RuleSettings.model_validate({**rule.model_dump(exclude_unset=True), **change}) if change else rule
                )
                fresh.rule()
            except ValidationError as error:
                errors = [{**each, "loc": ("change", rule.name, *each["loc"])} for each in error.errors()]
                raise ConfigError("\n".join(mistakes_of(errors, {"change": settings.change}))) from None
            except ConfigError as error:
                raise ConfigError(f"[change.{rule.name}] {error}") from None
            yield fresh
