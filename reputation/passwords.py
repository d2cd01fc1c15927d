"""Passwords that reputon keeps itself: lines of ``LOGIN:HASH``, the hash by argon2id (RFC 9106).

    # who may send
    alice@example.net:$argon2id$v=19$m=32768,t=2,p=1$...

The one door to argon2-cffi; `reputon passwd` writes such lines, the front end checks against them. ``{ARGON2ID}`` in
front of a hash, as Dovecot writes it, may stay. What a hash costs to check stands in the hash, so files with other
parameters work, within `MAX_MEMORY_KIB` and `MAX_WORK_KIB`: a file must not make us compute for minutes.

A login is compared in its canonical spelling, so ``Alice@Example.NET`` is ``alice@example.net``. A password is compared
in Unicode's form C: keyboards differ in how they write an umlaut.

Does not do: other kinds of hashes, changing a file (`reputation.cli.passwd`), reading one anew (the front end).
"""

import base64
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, VerifyMismatchError

from reputation.errors import ConfigError, ReputonError
from reputation.logins import is_login
from reputation.spelling import canonical_address

MEMORY_KIB = 32 * 1024
PASSES = 2
LANES = 1
"""What a new hash costs: 40 ms of one core and 32 MiB, to whoever checks a password and to whoever guesses one with the
file in hand. That is more than OWASP's least (19 MiB, 2 passes) and a quarter of RFC 9106's for little memory (64 MiB,
3 passes, 4 lanes): strangers can make a front end compute, and each guess of theirs costs it as much. One lane, because
many log-ins are checked beside each other anyway, and then lanes only share the same cores."""

MAX_MEMORY_KIB = 256 * 1024
MAX_WORK_KIB = 2 * 1024 * 1024
"""Memory times passes: a few seconds."""
MAX_LANES = 16
MAX_LINES = 1_000_000
COMMENT = "#"

PREFIXES = ("{ARGON2ID}", "{ARGON2I}", "{ARGON2}")
SALT_OCTETS = 16
DIGEST_OCTETS = 32

_HASHER = PasswordHasher(PASSES, MEMORY_KIB, LANES, DIGEST_OCTETS, SALT_OCTETS)
_FORM = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(?P<memory>\d{1,9}),t=(?P<passes>\d{1,9}),p=(?P<lanes>\d{1,9})"
    r"\$[A-Za-z0-9+/]{11,100}\$[A-Za-z0-9+/]{22,100}",  # a salt of 8 octets at least, a digest of 16
    re.ASCII,
)

Logins = Mapping[str, str]
"""Canonical login -> hash."""


class UncheckableError(ReputonError):
    """A hash could not be computed: there is no memory for it. Says nothing about the password."""


def hashed(password: str) -> str:
    """A new hash of a password, with a salt of its own. Takes `MEMORY_KIB` and some 40 ms."""
    return _HASHER.hash(_prepared(password))


def matches(stored: str, password: str) -> bool:
    """Whether a hash, as `read_logins` gives it, is of this password; raises `UncheckableError`.

    Takes the time and memory that stand in the hash, and lets other threads go on meanwhile.
    """
    try:
        return _HASHER.verify(stored, _prepared(password))
    except VerifyMismatchError:
        return False
    except Argon2Error as error:
        raise UncheckableError(f"a hash cannot be computed: {error}") from error


def decoy(like: Iterable[str] = ()) -> str:
    """A hash of no password, as costly to check as the most usual of some others: for logins that do not exist.

    >>> decoy(["$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$EIXULtqMZtBBwGn7bJkaH4zD7MEYRQ3hwS6yLGUJuM8"])[:28]
    '$argon2id$v=19$m=64,t=1,p=1$'
    """
    costs = Counter(cost_of(stored) for stored in like)
    usual = costs.most_common(1)[0][0] if costs else f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}"
    return "$".join((usual, _unpadded(os.urandom(SALT_OCTETS)), _unpadded(os.urandom(DIGEST_OCTETS))))


def cost_of(stored: str) -> str:
    """The part of a hash that says what it takes to check it."""
    return stored.rsplit("$", 2)[0]


def read_logins(text: str, name: str) -> dict[str, str]:
    """The logins and hashes of a file; raises `ConfigError` with its `name` and the line, never with a hash."""
    found: dict[str, str] = {}
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ConfigError(f"{name}: more than {MAX_LINES} lines")
    for number, line in enumerate(lines, 1):
        try:
            if entry := entry_of(line):
                login, stored = entry
                if login in found:
                    raise ConfigError(f"{login} stands here a second time")
                found[login] = _checked(stored)
        except ConfigError as error:
            raise ConfigError(f"{name}:{number}: {error}") from None
    return found


def entry_of(line: str) -> tuple[str, str] | None:
    """(canonical login, hash) of a line, None for an empty one and a comment; raises `ConfigError`.

    >>> entry_of("Alice: $argon2id$...")
    ('alice', '$argon2id$...')
    """
    line = line.strip()
    if not line or line.startswith(COMMENT):
        return None
    login, colon, stored = (part.strip() for part in line.partition(":"))
    if not is_login(login) or not colon or not stored:
        raise ConfigError("write LOGIN:HASH, or have `reputon passwd LOGIN` write it")
    for prefix in PREFIXES:
        if stored.upper().startswith(prefix):
            stored = stored[len(prefix) :]
            break
    return canonical_address(login, ""), stored


def _checked(stored: str) -> str:
    """The hash, if it can be checked here, within the bounds."""
    form = _FORM.fullmatch(stored)
    if form is None:
        raise ConfigError("this is no argon2 hash; have `reputon passwd LOGIN` make one")
    memory, passes, lanes = (int(form[name]) for name in ("memory", "passes", "lanes"))
    if memory > MAX_MEMORY_KIB or memory * passes > MAX_WORK_KIB or lanes > MAX_LANES:
        raise ConfigError(f"m={memory},t={passes},p={lanes} is too costly; m={MAX_MEMORY_KIB} is the most")
    if not passes or not lanes or memory < 8 * lanes:  # RFC 9106 section 3.1
        raise ConfigError(f"m={memory},t={passes},p={lanes} are no parameters of argon2")
    return stored


def _prepared(password: str) -> str:
    return unicodedata.normalize("NFC", password)


def _unpadded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")
