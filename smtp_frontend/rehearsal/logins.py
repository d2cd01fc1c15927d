"""In a rehearsal everybody has the same password, and nobody has to be set up."""

from smtp_frontend.auth.contract import DENIED, Accepted, Verified, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials

PASSWORD = "secret"  # noqa: S105 - everybody may know it
UNCHECKED = "unchecked"
"""Whoever tries this one finds that nobody can tell."""


class OnePassword:
    """Fulfils `smtp_frontend.auth.contract.Verifier`."""

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:  # noqa: ARG002 - the contract's
        if credentials.password == UNCHECKED:
            raise VerifierUnavailable("nobody can tell in this rehearsal")
        return Accepted(user=credentials.user) if credentials.password == PASSWORD else DENIED

    async def close(self) -> None:
        """Nothing to let go of."""
