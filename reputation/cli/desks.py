"""Whom a command asks: the store of a configuration, or the API of another process."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reputation.assemble import open_engine, settings_of
from reputation.cli.printing import note
from reputation.config import Settings, quickstart_path, without_password
from reputation.desk.contract import Desk
from reputation.desk.local import EngineDesk
from reputation.errors import ConfigError

TOKEN_VARIABLE = "REPUTON_TOKEN"  # noqa: S105 - the name of a variable
MAX_TOKEN_CHARACTERS = 1_000
READABLE_BY_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whom a command asks."""

    config: Path | None = None
    """The configuration whose store is asked; None for the quick start's."""
    api: str = ""
    """URL of the API that is asked instead."""
    token_file: Path | None = None
    ca: str = ""
    certificate: str = ""
    certificate_key: str = ""


def path_of(config: Path | None) -> Path:
    """The configuration that is meant."""
    return quickstart_path() if config is None else config


@asynccontextmanager
async def opened_desk(where: Where, *, following: bool = False) -> AsyncIterator[Desk]:
    """The abuse desk, for as long as the block runs. One that is `following` hears of what others put down meanwhile.

    Raises `ConfigError`, `StoreError`.
    """
    if where.api:
        from reputation.desk.remote import RemoteDesk  # noqa: PLC0415 - takes half a second, and is only needed here

        token = _token_in(where.token_file)
        remote = RemoteDesk(where.api, token, ca=where.ca, certificate=where.certificate, key=where.certificate_key)
        try:
            yield remote
        finally:
            await remote.close()
        return
    path = path_of(where.config)
    settings = _asked(where.config, path)
    async with open_engine(settings, serving=False) as engine:
        following_task = asyncio.create_task(engine.registrar.run()) if following else None
        try:
            yield EngineDesk(engine, author(), settings=settings, path=path)
        finally:
            if following_task is not None:
                following_task.cancel()
                with suppress(asyncio.CancelledError):
                    await following_task


def _asked(config: Path | None, path: Path) -> Settings:
    """The settings whose store is asked; says which it is when nobody has named it."""
    settings = settings_of(path)
    if settings.store.url.startswith("memory:"):
        raise ConfigError(
            f"{path}: the store is memory:, which no other process can see: ask the one that runs, by --api URL"
        )
    if config is None:
        note(f"asking {without_password(settings.store.url)}, the store of {path}: no --config was given")
    return settings


def _token_in(file: Path | None) -> str:
    """The token: the first line of a file, or what the environment says."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        with file.open(encoding="ascii") as opened:
            text = opened.readline(MAX_TOKEN_CHARACTERS).strip()
            if file.is_file() and os.fstat(opened.fileno()).st_mode & READABLE_BY_OTHERS:
                note(f"{file} can be read by others: chmod 600 {file}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'no token'}") from None
    if not text:
        raise ConfigError(f"{file}: there is no token in its first line")
    return text


def author() -> str:
    """Who does it, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user here
        return "unknown"
