"""What the front end needs from whoever knows the passwords."""

from dataclasses import dataclass
from typing import Protocol

from reputation.errors import ReputonError
from smtp_frontend.auth.credentials import Credentials


class VerifierUnavailable(ReputonError):
    """It cannot be found out whether a password is right. Our trouble: 454 to the client, and nobody's failure.

    The text is for our log. It names no password, and no login.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The password is right."""

    user: str
    """Whom it is of, spelled canonically: for `Session.user`."""


@dataclass(frozen=True, slots=True)
class Denied:
    """There is no such user, or the password is not his, or he may not log in. Which one is nobody's business."""


Verified = Accepted | Denied
DENIED = Denied()


class Verifier(Protocol):
    """Knows the passwords, or whom to ask. Used by many sessions at the same time."""

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:
        """Whether a password is right; `client` is the address it came from, for logs and rules on the other side.

        Raises `VerifierUnavailable`, and nothing else but cancellation.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
