"""What holds for every way to check a password: the default domain, the deadline, one line in the log when it fails.

A verifier that stops answering is told of once, and once when it answers again.
"""

import asyncio
import logging

from smtp_frontend.auth.contract import DENIED, Verified, Verifier, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials

log = logging.getLogger("reputon.auth")


class Bounded:
    """A verifier with bounds around it."""

    def __init__(self, verifier: Verifier, *, name: str, default_domain: str, deadline_seconds: float) -> None:
        self._verifier = verifier
        self._name = name
        self._default_domain = default_domain
        self._deadline_seconds = deadline_seconds
        self._is_well = True

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:
        """See `Verifier`."""
        try:
            completed = credentials.within(self._default_domain)
        except ValueError:  # too long together
            return DENIED
        try:
            async with asyncio.timeout(self._deadline_seconds):
                verified = await self._verifier.verify(completed, client)
        except TimeoutError:
            raise self._trouble(f"no answer within {self._deadline_seconds:g} s") from None
        except VerifierUnavailable as error:
            raise self._trouble(str(error)) from error
        if not self._is_well:
            self._is_well = True
            log.warning("log-ins can be checked again: %s", self._name)
        return verified

    async def close(self) -> None:
        """See `Verifier`."""
        await self._verifier.close()

    def _trouble(self, why: str) -> VerifierUnavailable:
        if self._is_well:
            self._is_well = False
            log.error("log-ins cannot be checked, clients are told 454: %s: %s", self._name, why)
        return VerifierUnavailable(why)
