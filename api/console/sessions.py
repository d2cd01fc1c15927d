"""Who is logged in to the console: one cookie, which every node of the API can read, and none has to remember.

    TOKEN_ID . EXPIRES . NONCE . COVERED . SEAL
                                 |         HMAC by a key that is made of the token's secret
                                 the secret, under a pad that is made of the token's digest and the nonce

A node knows a token's digest only (`reputation.access`). With it, it takes the pad off, sees that this is the secret of
that digest, and checks the seal. So:

* Whoever reads the store finds digests, and cannot make a cookie of them: the secret is not there.
* Whoever steals a cookie has a log-in until EXPIRES, and no token: under the pad the secret looks like chance.
* A token that is taken back, or over, ends all its log-ins at once, on every node.

What stands in forms against forgery (`Session.form_token`) is made of the same key, one for each log-in. Pure.

Bugs: to log out is to have the browser forget the cookie. One that was stolen before stays good until it expires, or
until the token is taken back.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from reputation.access import Token

MAX_COOKIE = 400
NONCE_OCTETS = 16
_COOKIE = re.compile(r"([0-9a-f]{8})\.([0-9]{1,12})\.([0-9a-f]{32})\.([A-Za-z0-9_=-]{4,100})\.([0-9a-f]{64})")
_PAD, _SESSION, _SEAL, _FORM = b"reputon console pad", b"reputon console session", b"seal", b"form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A log-in that is in force."""

    token: Token
    expires_at: float
    """Seconds since the epoch."""
    key: bytes

    @property
    def form_token(self) -> str:
        """What its forms carry."""
        return hmac.digest(self.key, _FORM, "sha256").hex()

    def has_form(self, text: str) -> bool:
        """Whether a form is one of this log-in's; takes as long whether it is or not."""
        return hmac.compare_digest(self.form_token.encode(), text.encode("utf-8", "replace"))


def sealed(token: Token, secret: str, *, expires_at: float, nonce: bytes) -> str:
    """The cookie of a new log-in. `nonce`: `NONCE_OCTETS` of chance, never used before."""
    covered = urlsafe_b64encode(_padded(secret.encode(), token, nonce.hex())).decode()
    head = f"{token.token_id}.{expires_at:.0f}.{nonce.hex()}.{covered}"
    return f"{head}.{_seal(_key(secret, head))}"


def session_of(cookie: str, tokens: Mapping[str, Token], now: float) -> Session | None:
    """The log-in that a cookie is for; None for one that is over, forged, or of a token that is not in force."""
    match = _COOKIE.fullmatch(cookie) if len(cookie) <= MAX_COOKIE else None
    token = tokens.get(match[1]) if match else None
    if match is None or token is None or not token.in_force(now):
        return None
    try:
        secret = _padded(urlsafe_b64decode(match[4]), token, match[3]).decode("ascii")
    except ValueError:
        return None
    key, expires_at = _key(secret, cookie.rpartition(".")[0]), float(match[2])
    is_genuine = token.is_opened_by(secret) & hmac.compare_digest(_seal(key), match[5])
    return Session(token=token, expires_at=expires_at, key=key) if is_genuine and now < expires_at else None


def _padded(octets: bytes, token: Token, nonce: str) -> bytes:
    """Put a pad on, or take it off; each nonce has its own."""
    pad = hmac.digest(bytes.fromhex(token.digest), _PAD + nonce.encode(), "sha512")
    return bytes(octet ^ cover for octet, cover in zip(octets[: len(pad)], pad, strict=False))


def _key(secret: str, head: str) -> bytes:
    return hmac.digest(secret.encode(), _SESSION + head.encode(), "sha256")


def _seal(key: bytes) -> str:
    return hmac.digest(key, _SEAL, "sha256").hex()
