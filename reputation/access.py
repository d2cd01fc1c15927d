"""Who may do what at the API: tokens and their scopes. Pure values, and their text.

    rpt_3f9c2a17_Yw0s...            what its owner keeps: `PREFIX`, its id, and its secret of 256 random bits
    token|3f9c2a17                  what is kept of it, in the register: a digest, who may do what with it, until when

Of a secret only its SHA-256 is kept: it is long and random, so nothing slower than that is needed, and whoever reads
the store cannot log in with what he finds. A token is found by its id, and its secret compared in constant time.

=======  ==========================================================================================
scope    what it allows
=======  ==========================================================================================
read     look at everything but tokens: counts, reputation, rules, what was put down, live verdicts
check    ask for verdicts, and tell what became of messages: for mail servers
write    put down and lift bans, overrides and lists; release; tell what became of messages
admin    forget somebody, reload the rules, make tokens and take them back
=======  ==========================================================================================

``write`` includes ``read``, and ``admin`` includes all.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from reputation.errors import ConfigError

PREFIX = "rpt"
TOKEN = "token|"  # noqa: S105 - what the ids of tokens begin with
MAX_TEXT = 500
SECRET_OCTETS = 32
_ID = re.compile(r"[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXT = re.compile(r"rpt_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Scope(StrEnum):
    """What a token allows."""

    READ = "read"
    CHECK = "check"
    WRITE = "write"
    ADMIN = "admin"


_INCLUDED: Mapping[Scope, frozenset[Scope]] = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.CHECK: frozenset({Scope.CHECK}),
    Scope.WRITE: frozenset({Scope.WRITE, Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}
assert _INCLUDED.keys() == set(Scope)


def scopes_of(words: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes that are named, in their order; raises `ConfigError` for none, and for what is none.

    >>> scopes_of(["write", "check"])
    (<Scope.CHECK: 'check'>, <Scope.WRITE: 'write'>)
    """
    named = set(words)
    if not named or not named <= set(Scope):
        raise ConfigError(f"scope: name one or more of {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token. Raises `ConfigError` that names the field at fault."""

    token_id: str
    """Eight hexadecimal digits."""
    name: str
    """Whose it is; signs what is done with it."""
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    scopes: tuple[Scope, ...]
    author: str
    reason: str
    created_at: float
    """Seconds since the epoch, as `expires_at`."""
    expires_at: float | None
    """None: never."""
    requests_per_second: float = 0.0
    """What it may ask for, of each API process; 0: what the settings say."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.token_id) or not _DIGEST.fullmatch(self.digest):
            raise ConfigError("token: no token")
        if not _NAME.fullmatch(self.name) or _ID.fullmatch(self.name):
            raise ConfigError("name: write 1 to 64 letters, digits, and . _ @ - between them, and no id of a token")
        scopes_of(self.scopes)
        if not 0 <= self.requests_per_second <= 1e6:
            raise ConfigError("requests_per_second: from 0 to a million")
        for field, text in (("author", self.author), ("reason", self.reason)):
            if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
                raise ConfigError(f"{field}: write one line of 1 to {MAX_TEXT} printable characters")
        if self.expires_at is not None and self.expires_at <= self.created_at:
            raise ConfigError("expires_at: later than created_at; None for no end")

    @property
    def id(self) -> str:
        """``token|TOKEN_ID``: what it is called in the register."""
        return f"{TOKEN}{self.token_id}"

    def in_force(self, now: float) -> bool:
        """Whether it is not over yet."""
        return self.expires_at is None or now < self.expires_at

    def allows(self, scope: Scope) -> bool:
        """Whether one of its scopes includes `scope`."""
        return any(scope in _INCLUDED[own] for own in self.scopes)

    def is_opened_by(self, secret: str) -> bool:
        """Whether this is its secret; takes as long whether it is or not."""
        return hmac.compare_digest(digest_of(secret), self.digest)


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def spelled_token(token_id: str, secret: str) -> str:
    """The text that its owner keeps."""
    return f"{PREFIX}_{token_id}_{secret}"


def parse_token(text: str) -> tuple[str, str] | None:
    """Id and secret of a token's text; None for what is none.

    >>> parse_token("rpt_3f9c2a17_" + "x" * 43) == ("3f9c2a17", "x" * 43), parse_token("rpt_3f9c2a17_short")
    (True, None)
    """
    match = _TEXT.fullmatch(text)
    return None if match is None else (match[1], match[2])


def to_json(token: Token) -> str:
    """What its id does not say, as one JSON object; `token_of` reads it back."""
    return json.dumps(
        {
            "name": token.name,
            "digest": token.digest,
            "scopes": list(token.scopes),
            "author": token.author,
            "reason": token.reason,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "requests_per_second": token.requests_per_second,
        }
    )


def token_of(json_text: str, id: str) -> Token:
    """The token of that id in the register. Skips keys that it does not know; raises `ConfigError` for all else."""
    try:
        body = json.loads(json_text)
        return Token(
            token_id=id.removeprefix(TOKEN),
            name=str(body["name"]),
            digest=str(body["digest"]),
            scopes=scopes_of(map(str, body["scopes"])),
            author=str(body["author"]),
            reason=str(body["reason"]),
            created_at=float(body["created_at"]),
            expires_at=None if body["expires_at"] is None else float(body["expires_at"]),
            requests_per_second=float(body.get("requests_per_second", 0.0)),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f'"{id:.100}" in the register: no token: {type(error).__name__}') from None
    except ConfigError as error:
        raise ConfigError(f'"{id:.100}" in the register: {error}') from None
