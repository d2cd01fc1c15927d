"""`reputon passwd`: a line for the file of ``passwd:FILE``, with the hash of a password that is asked for.

Promises: the password is never an argument, so neither the shell's history nor a list of processes has it. A file is
replaced as a whole or not at all, and keeps its owner and who may read it; a new one is for its owner only. Two such
commands at once wait for each other. All other lines stay as they are.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path

from reputation.cli.files import replacing
from reputation.errors import ConfigError
from reputation.logins import MAX_LOGIN_OCTETS, MAX_PASSWORD_OCTETS, is_login, is_password
from reputation.passwords import COMMENT, entry_of, hashed, read_logins
from reputation.spelling import canonical_address

MAX_PASSWORD_CHARACTERS = 4_096


def line_for(login: str) -> str:
    """``LOGIN:HASH``, after asking for the password; raises `ConfigError`."""
    if not is_login(login) or ":" in login or login.startswith(COMMENT):
        raise ConfigError(
            f"this cannot be a login: it has blanks, a colon, or more than {MAX_LOGIN_OCTETS} octets, or begins with #"
        )
    password = _asked(login)
    if not is_password(password):
        raise ConfigError(
            f"this cannot be a password: it is empty, has control characters, or more than {MAX_PASSWORD_OCTETS} octets"
        )
    return f"{login}:{hashed(password)}"


def _asked(login: str) -> str:
    """The password: twice at a terminal, one line of anything else."""
    if not sys.stdin.isatty():
        return sys.stdin.readline(MAX_PASSWORD_CHARACTERS).removesuffix("\n").removesuffix("\r")
    password = getpass(f"Password for {login}: ")
    if getpass("Again: ") != password:
        raise ConfigError("the two are not the same: nothing was done")
    return password


def put(file: Path, line: str) -> bool:
    """Put a line into a file, in place of the line of the same login; whether there was one. Raises `ConfigError`."""
    try:
        file = file.resolve()
        with _alone_in(file.parent):
            return _replace(file, line)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until nobody else changes a file of a directory by this command."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(file: Path, line: str) -> bool:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: this is no text in UTF-8") from None
    login, _, _ = line.partition(":")
    places = [number for number, each in enumerate(lines) if _is_of(login, each)]
    if places:
        lines[places[0]] = line
    else:
        lines.append(line)
    text = "".join(f"{each}\n" for each in lines)
    read_logins(text, str(file))  # a file that the front end would not take is not written
    with replacing(file) as new:
        new.write(text.encode())
    return bool(places)


def _is_of(login: str, line: str) -> bool:
    try:
        entry = entry_of(line)
    except ConfigError:
        return False
    return entry is not None and entry[0] == canonical_address(login, "")
