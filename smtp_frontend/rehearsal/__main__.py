"""The program: ``python -m smtp_frontend.rehearsal [--config FILE] [-v] SCRIPT_OR_DIRECTORY...``.

Plays the ``*.smtp`` scripts of directories, in order, and says of each scene whether the front end kept to it. `script`
says how they are written. A script without a configuration is about that of FILE; where its mail goes, where it is
counted and how it is logged is of no importance here. What a script's own configuration includes is looked for from the
script's directory.

Each scene begins at the midnight of a Saturday, whatever the clock of this machine says.

Prints one line per scene, for a failure with what was expected, what came, and the dialogue up to there; ``-v`` shows
all dialogues. Exit status: 0 when all scenes went well, 1 otherwise.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reputation.assemble import settings_of
from reputation.config import BUILT_IN, Settings
from reputation.errors import ConfigError
from smtp_frontend.rehearsal.script import Scene, ScriptError, parse
from smtp_frontend.rehearsal.stage import DialogFailure, perform

NO_POLICY = frozenset({"store", "log", "policy_service", "filter"})
"""Tables of a configuration in use that have nothing to do with its policy."""
NO_POLICY_OF_SMTP = frozenset(
    {"listen", "listen_submission", "listen_submissions", "workers", "hostname", "next_hop", "services"}
    | {"tls", "auth", "xclient_from", "proxy_from", "spool_directory"}
)
"""Settings of its ``[smtp]`` that have not either."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play all scripts; returns the exit status."""
    parser = argparse.ArgumentParser(prog="smtp_frontend.rehearsal", description="Plays SMTP dialogues about a policy.")
    parser.add_argument("--config", type=Path, help="TOML file that scripts without a configuration are about")
    parser.add_argument("-v", "--verbose", action="store_true", help="show all dialogues")
    parser.add_argument("scripts", type=Path, nargs="+", metavar="SCRIPT_OR_DIRECTORY")
    options = parser.parse_args(arguments)
    try:
        given = {} if options.config is None else tables_of(options.config)
        scripts = [(path, scenes_of(path, given)) for path in found(options.scripts)]
    except (ConfigError, ScriptError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - nothing was played
        return 1
    failures = [_played(path, scene, options.verbose) for path, scenes in scripts for scene in scenes]
    _say(f"{len(failures)} scenes, {sum(failures)} failed")
    return int(any(failures))


def found(paths: Sequence[Path]) -> list[Path]:
    """The scripts; raises `ConfigError` where there is none."""
    scripts = []
    for path in paths:
        under = sorted(path.rglob("*.smtp")) if path.is_dir() else [path]
        if not under or not under[0].is_file():
            raise ConfigError(f"{path}: no script, and no directory with *.smtp in it")
        scripts += under
    return scripts


def tables_of(config: Path) -> dict[str, Any]:
    """What a configuration in use says about its policy. Raises `ConfigError` when it cannot be used."""
    settings_of(config)
    tables = tomllib.loads(config.read_text(encoding="utf-8"))
    smtp = {key: value for key, value in tables.get("smtp", {}).items() if key not in NO_POLICY_OF_SMTP}
    others = {name: table for name, table in tables.items() if name not in NO_POLICY}
    return _located({**others, "smtp": smtp}, config.parent)


def _located(tables: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The tables with whole paths of the files that they include."""
    if "include" not in tables:
        return tables
    whole = [name if name in BUILT_IN else str((directory / name).absolute()) for name in tables["include"]]
    return {**tables, "include": whole}


def scenes_of(path: Path, given: Mapping[str, Any]) -> tuple[Scene, ...]:
    """The scenes of a script; raises `ScriptError` and `ConfigError`, which name the file."""
    try:
        return parse(path.read_text(encoding="utf-8"), given)
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def _played(path: Path, scene: Scene, verbose: bool) -> bool:
    """Play a scene and say how it went; whether it failed."""
    title = f"{path}: {scene.title or 'first scene'}"
    try:
        said = asyncio.run(perform(scene, str(path), settings_for(scene, path)))
    except (DialogFailure, ScriptError, ConfigError) as failure:
        _say(f"FAIL  {title}", *(f"      {line}" for line in str(failure).splitlines()))
        return True
    _say(f"pass  {title}", *(f"      {line}" for line in said if verbose))
    return False


def settings_for(scene: Scene, path: Path) -> Settings:
    """The configuration of a scene, read like one in use. Raises `ConfigError` that names the script."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "scene.toml"
        file.write_text("\n".join(toml_of(_located(scene.tables, path.parent))), encoding="utf-8")
        try:
            return settings_of(file)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(file), str(path))) from None


def toml_of(tables: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Tables as TOML, line by line: values first, then tables and arrays of tables.

    >>> list(toml_of({"a": {"b": [1, "x"], "c": {"d": True}}, "e": [{"f": 1}], "g": 2}))
    ['"g" = 2', '["a"]', '"b" = [1, "x"]', '["a"."c"]', '"d" = true', '[["e"]]', '"f" = 1']
    """
    inner = {key: value for key, value in tables.items() if isinstance(value, dict) or _is_array_of_tables(value)}
    # JSON's strings, numbers and arrays are TOML's, too.
    yield from (f"{_key(key)} = {_value(value)}" for key, value in tables.items() if key not in inner)
    for key, value in inner.items():
        name = f"{above}{_key(key)}"
        for table in value if isinstance(value, list) else [value]:
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from toml_of(table, f"{name}.")


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _key(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - what the program is for


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"  # by the local clock, too, a scene begins at midnight
    time.tzset()
    sys.exit(main())
