"""What client and server say to each other in AUTH: PLAIN (RFC 4616) and LOGIN, as RFC 4954 section 4 carries them.

::

    step = start("PLAIN", initial)                  what stood behind AUTH, None where nothing did
    while isinstance(step, Challenge):
        step = step.answer(the client's next line)  after `step.reply` was sent
    verifier.verify(step, ...)                      it is `Credentials` now

Promises: any octets make a step, or raise `Refused` with the answer for the client; nothing else is ever raised, and
after `Refused` the exchange is over. There are at most two challenges. A password is in no text and no `repr`.

LOGIN is in no standard (draft-murchison-sasl-login); old clients know nothing else. Its initial response is the login.

Does not do: reading and writing, asking whether the password is right, counting failures. To act for somebody else
(an authorization identity of its own) is refused.
"""

import binascii
from collections.abc import Callable
from dataclasses import dataclass, field

from reputation.errors import ReputonError
from smtp_frontend.auth import replies
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.reply import Reply

MAX_LINE_OCTETS = 12_288
"""Of a response, in base64: RFC 4954 section 4."""
CANCEL = b"*"
EMPTY = b"="
"""An initial response that is there and empty."""
USERNAME = "VXNlcm5hbWU6"
PASSWORD = "UGFzc3dvcmQ6"  # noqa: S105 - it is what the password is asked for with, "Password:" in base64


class Refused(ReputonError):
    """The exchange is over without credentials. Carries the answer for the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.one_line)
        self.reply = reply

    @property
    def is_failure(self) -> bool:
        """Whether it counts as a log-in that failed; else it is a mistake of the protocol."""
        return self.reply == replies.DENIED


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server asks; the client's next line is the answer."""

    text: str
    """In base64, to be sent behind 334."""
    _take: "Callable[[bytes], Step]" = field(repr=False, compare=False)

    @property
    def reply(self) -> Reply:
        """What is sent."""
        return Reply(334, self.text, ours=True)

    def answer(self, line: bytes) -> "Step":
        """The next step, after a line of the client without its CRLF; raises `Refused`."""
        if line == CANCEL:
            raise Refused(replies.CANCELLED)
        return self._take(_decoded(line))


Step = Challenge | Credentials


def start(mechanism: str, initial: bytes | None) -> Step:
    """The first step of ``AUTH mechanism initial``; raises `Refused`.

    `mechanism` in any case; `initial` as it stood there, in base64, None where nothing did.
    """
    known = _MECHANISMS.get(mechanism.upper()) if mechanism.isascii() else None
    if known is None:
        raise Refused(replies.UNKNOWN_MECHANISM)
    take, prompt = known
    if initial is None:
        return Challenge(prompt, take)
    return take(b"" if initial == EMPTY else _decoded(initial))


def _plain(message: bytes) -> Step:
    """[authzid] NUL authcid NUL passwd: RFC 4616 section 2."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Refused(replies.MALFORMED)
    acting_for, login, password = parts
    if acting_for and acting_for != login:
        raise Refused(replies.DENIED)
    return _credentials(login, password)


def _login(login: bytes) -> Step:
    return Challenge(PASSWORD, lambda password: _credentials(login, password))


def _credentials(login: bytes, password: bytes) -> Credentials:
    try:
        return Credentials(login=login.decode("utf-8"), password=password.decode("utf-8"))
    except ValueError:
        pass
    raise Refused(replies.DENIED)  # outside of the clause: the other error has the password in it


def _decoded(line: bytes) -> bytes:
    if len(line) > MAX_LINE_OCTETS:
        raise Refused(replies.TOO_LONG)
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise Refused(replies.NOT_BASE64) from None


_MECHANISMS: dict[str, tuple[Callable[[bytes], Step], str]] = {"PLAIN": (_plain, ""), "LOGIN": (_login, USERNAME)}
MECHANISMS = tuple(_MECHANISMS)
"""As EHLO offers them."""
