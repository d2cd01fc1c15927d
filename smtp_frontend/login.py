"""AUTH: the client says who it is, and whoever knows the passwords is asked (RFC 4954).

    rules about who guesses -> the exchange (`auth.mechanisms`) -> the verifier -> rules about the user

Rules of the stage ``auth`` are asked twice: before a password is looked at, so that who guesses too much is told
nothing, and about the user when it was right. A failure is learned as an outcome and counts against where it comes
from, never against the user: anybody could lock anybody out. A verifier that is away is our own trouble, and no
failure.
"""

import logging
from dataclasses import replace

from reputation.events import Auth, Outcome, OutcomeKind, Session
from smtp_frontend import answers, maillog
from smtp_frontend.auth import replies
from smtp_frontend.auth.contract import Accepted, Verified, Verifier, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.mechanisms import MAX_LINE_OCTETS, MECHANISMS, Challenge, Refused, start
from smtp_frontend.inbox import BadLine
from smtp_frontend.judging import Judge
from smtp_frontend.reply import Reply
from smtp_frontend.surroundings import Surroundings
from smtp_frontend.wire import Wire

__all__ = ["MECHANISMS", "LogIn"]

log = logging.getLogger("reputon.smtp")


class LogIn:
    """The log-ins of one session."""

    def __init__(self, shared: Surroundings, judge: Judge, wire: Wire) -> None:
        self._shared = shared
        self._judge = judge
        self._wire = wire
        self._failures = 0

    async def attempt(self, session: Session, argument: bytes) -> tuple[Reply, str]:
        """What AUTH with this argument comes to: the reply, and the user, empty when nobody has logged in."""
        mechanism, _, initial = argument.partition(b" ")
        try:
            credentials = await self._exchange(mechanism.decode("ascii", "replace"), initial.strip() or None)
        except Refused as refused:
            return (await self._failed(session, "") if refused.is_failure else refused.reply), ""
        except TimeoutError:
            return answers.TIMED_OUT, ""
        except BadLine as bad:
            return Reply(500, str(bad), "5.5.6"), ""
        return await self._verified(session, credentials)

    async def _exchange(self, mechanism: str, initial: bytes | None) -> Credentials:
        step = start(mechanism, initial)
        while isinstance(step, Challenge):
            await self._wire.send(step.reply)
            line = await self._wire.line(self._shared.settings.command_timeout_seconds, MAX_LINE_OCTETS)
            step = step.answer(line)
        return step

    async def _verified(self, session: Session, credentials: Credentials) -> tuple[Reply, str]:
        verifier = self._shared.verifier
        assert verifier is not None
        _, refusal = await self._judge.judge(Auth(session=session, login=credentials.login, success=False))
        if refusal:
            return refusal, ""
        verified = await self._asked(verifier, credentials, session)
        if verified is None:
            self._ended("unchecked", Auth(session=session, login=credentials.login, success=False))
            return replies.UNAVAILABLE, ""
        if not isinstance(verified, Accepted):
            return await self._failed(session, credentials.login), ""
        known = replace(session, user=verified.user)
        event = Auth(session=known, login=credentials.login, success=True)
        _, refusal = await self._judge.judge(event, holds=False)
        if refusal:
            return refusal, ""
        self._ended("accepted", event)
        return replies.ACCEPTED, verified.user

    async def _asked(self, verifier: Verifier, credentials: Credentials, session: Session) -> Verified | None:
        """What whoever knows the passwords says; None where that cannot be found out now."""
        try:
            async with self._shared.log_ins.place(session.client):
                return await verifier.verify(credentials, str(session.client))
        except (VerifierUnavailable, TimeoutError) as error:
            log.debug("a log-in cannot be checked: %s", error)  # the verifier has told, once
            return None

    async def _failed(self, session: Session, login: str) -> Reply:
        self._failures += 1
        event = Auth(session=session, login=login, success=False)
        self._ended("denied", event)
        await self._shared.engine.learn(Outcome(kind=OutcomeKind.AUTH_FAILED, event=event))
        auth = self._shared.settings.auth
        if auth is not None and self._failures >= auth.max_failures:
            return answers.TOO_MANY_LOG_INS
        return replies.DENIED

    def _ended(self, result: str, event: Auth) -> None:
        self._shared.engine.metrics.log_ins.labels(result).inc()
        maillog.log_in(result, event)
