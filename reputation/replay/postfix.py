"""Lines of Postfix' daemons as records.

A message is told of by many lines of several daemons. With the default settings these are the ones that count::

    postfix/smtpd[8]: connect from mail.example.com[192.0.2.7]
    postfix/smtpd[8]: NOQUEUE: reject: RCPT from mail.example.com[192.0.2.7]: 550 5.1.1 <x@example.net>: Recipient ...
    postfix/smtpd[8]: 4F1A2B: client=mail.example.com[192.0.2.7], sasl_method=PLAIN, sasl_username=alice
    postfix/qmgr[9]: 4F1A2B: from=<alice@example.com>, size=305, nrcpt=2 (queue active)
    postfix/smtp[7]: 4F1A2B: to=<bob@example.net>, relay=..., dsn=2.0.0, status=sent (250 ...)
    postfix/qmgr[9]: 4F1A2B: removed
    postfix/smtpd[8]: disconnect from mail.example.com[192.0.2.7] ehlo=1 ...

The program's name may have further parts (``postfix/submission/smtpd``), queue ids may be short or long.

Bugs: HELO names are in lines of refusals only, so they are not read. Of postscreen only refused recipients are. Mail
that is put into the queue by a command of the machine itself (pickup) has no client and is no event, nor is what a
milter or a table discards.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from reputation.events import ClientAddress
from reputation.replay.records import (
    Connected,
    Expired,
    Fate,
    Left,
    LoginFailed,
    Origin,
    Parse,
    Queued,
    Record,
    Refused,
    Removed,
    Secured,
    Taken,
    Turned,
    UnreadableLine,
    Went,
)

CACHED_CLIENTS = 65_536
UNKNOWN_RECIPIENT = frozenset({"5.1.1", "5.1.6", "5.1.10"})
"""RFC 3463 section 3.2, as the front end reads them."""
UNKNOWN_RECIPIENT_CODES = frozenset({"550", "551", "553"})
"""Of a reply without an enhanced code."""

_CLIENT = re.compile(r"[^\s\[]*\[([^\]\s]+)\](?::\d+)?")
_USER = re.compile(r", sasl_username=([^,]*)")
_EARLIER_ID = re.compile(r", orig_queue_id=(\w+)")
_EARLIER_CLIENT = re.compile(r", orig_client=[^\s\[]*\[([^\]\s]+)\]")
_QUEUED = re.compile(r"from=<(.*)>, size=(\d+), nrcpt=(\d+) ")
_STATUS = re.compile(r"[\w-]+(?= |$)")
_REJECT = re.compile(r"(?:milter-)?reject: ([A-Z][A-Z-]*) from [^\s\[]*\[([^\]\s]+)\](?::\d+)?: (?:(\d{3})\b)? ?(.*)")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")
_LOGIN_FAILED = re.compile(r"warning: ([^\s\[]*\[[^\]\s]+\])(?::\d+)?: SASL \S+ authentication failed")
_POSTSCREEN = re.compile(r"NOQUEUE: reject: RCPT from (\[\S+\]:\d+): ")

_FATES = {"sent": Fate.SENT, "bounced": Fate.BOUNCED, "deferred": Fate.DEFERRED, "expired": Fate.BOUNCED}
_TURNED = {
    "MAIL": Turned.SENDER,
    "RCPT": Turned.RECIPIENT,
    "DATA": Turned.MESSAGE,
    "END-OF-MESSAGE": Turned.MESSAGE,
}
"""What a refusal at a stage of SMTP is about; others turn nobody's mail away, or the client does not count as heard."""


@lru_cache(maxsize=CACHED_CLIENTS)
def address_of(text: str) -> ClientAddress | None:
    """The address of a client; None where there is none ("unknown")."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _smtpd(text: str, origin: Origin) -> Record | None:
    at_us, host, pid = origin
    place = f"{host} {pid}"
    if text.startswith("connect from "):
        return Connected(at_us, place, _client(text, 13))
    if text.startswith("disconnect from "):
        return Left(at_us, place)
    id, colon, rest = text.partition(": ")
    if colon and rest.startswith("client="):
        return None if id == "NOQUEUE" else _taken(rest, origin, place, f"{host} {_checked(id)}")
    if colon and rest.startswith(("reject: ", "milter-reject: ")):
        return _refused(rest, origin, place, "" if id == "NOQUEUE" else f"{host} {_checked(id)}")
    if id == "warning":
        return _login_failed(text, at_us, place)
    return Secured(at_us, place) if "TLS connection established from " in id else None


def _checked(id: str) -> str:
    """A queue id, short (hexadecimal) or long."""
    if not id.isalnum():
        raise UnreadableLine
    return id


def _client(text: str, position: int) -> ClientAddress | None:
    match = _CLIENT.match(text, position)
    if match is None:
        raise UnreadableLine
    return address_of(match[1])


def _taken(rest: str, origin: Origin, place: str, id: str) -> Taken:
    match = _CLIENT.match(rest, 7)
    if match is None:
        raise UnreadableLine
    client = address_of(match[1])
    if match.end() == len(rest):
        return Taken(origin.at_us, place, id, client)
    user, earlier, orig = _USER.search(rest), _EARLIER_ID.search(rest), _EARLIER_CLIENT.search(rest)
    return Taken(
        origin.at_us,
        place,
        id,
        client,
        user=user[1] if user else "",
        earlier_id=f"{origin.host} {earlier[1]}" if earlier else "",
        earlier_client=address_of(orig[1]) if orig else None,
    )


def _refused(rest: str, origin: Origin, place: str, id: str) -> Refused | None:
    match = _REJECT.match(rest)
    if match is None:
        raise UnreadableLine
    stage, client, code, text = match.groups()
    what = _TURNED.get(stage)
    envelope = _envelope(text)
    if what is None or envelope is None:
        return None
    sender, recipient = envelope
    if what is Turned.RECIPIENT and _is_unknown(code or "", text):
        what = Turned.UNKNOWN_RECIPIENT
    return Refused(origin.at_us, place, id, address_of(client), what, sender, recipient)


def _envelope(text: str) -> tuple[str, str] | None:
    """(sender, recipient) of ``...; from=<a> to=<b> proto=...``; the recipient is empty where there is none.

    The last that there is, because what a reply says may look like an envelope, too. No pattern: what a client wrote
    could make one try for minutes.
    """
    end = text.rfind(" proto=")
    begin = text.rfind(" from=<", 0, end) if end >= 0 else -1
    if begin < 0:
        return None
    sender, _, recipient = text[begin + 7 : end].rstrip(",").removesuffix(">").partition("> to=<")
    if not recipient:  # postscreen has commas
        sender, _, recipient = sender.partition(">, to=<")
    return sender, recipient


def _is_unknown(code: str, text: str) -> bool:
    enhanced = _ENHANCED.match(text)
    if enhanced is not None:
        return code[:1] == "5" and enhanced[0] in UNKNOWN_RECIPIENT
    return code in UNKNOWN_RECIPIENT_CODES


def _login_failed(text: str, at_us: int, place: str) -> LoginFailed | None:
    match = _LOGIN_FAILED.match(text)
    if match is None:
        return None
    login = _USER.search(text)
    return LoginFailed(at_us, place, _client(match[1], 0), login[1] if login else "")


def _postscreen(text: str, origin: Origin) -> Refused | None:
    match = _POSTSCREEN.match(text)
    return None if match is None else _refused(text[9:], origin, f"{origin.host} {match[1]}", "")


def _cleanup(text: str, origin: Origin) -> Refused | None:
    """Refused after it has come in: by a milter, or for what a header or the body says."""
    id, _, rest = text.partition(": ")
    if not rest.startswith(("reject: ", "milter-reject: ")):
        return None
    envelope = _envelope(rest)
    sender = envelope[0] if envelope else None
    return Refused(origin.at_us, "", f"{origin.host} {_checked(id)}", None, Turned.MESSAGE, sender)


def _qmgr(text: str, origin: Origin) -> Record | None:
    id, _, rest = text.partition(": ")
    if rest == "removed":
        return Removed(origin.at_us, f"{origin.host} {id}")
    if not rest.startswith("from=<"):
        return None
    match = _QUEUED.match(rest)
    if match is not None:
        return Queued(origin.at_us, f"{origin.host} {_checked(id)}", match[1], int(match[2]), int(match[3]))
    if ", status=" in rest:
        return Expired(origin.at_us, f"{origin.host} {_checked(id)}") if "expired, " in rest else None
    raise UnreadableLine


def _delivery(text: str, origin: Origin) -> Went | None:
    id, _, rest = text.partition(": ")
    if not rest.startswith("to=<"):
        return None
    # No pattern: what a client wrote as a recipient could make one try for minutes.
    envelope, found, how = rest.partition(">, relay=")
    status = _STATUS.match(how.partition(", status=")[2])
    if not found or status is None:
        raise UnreadableLine
    address, _, recipient = envelope[4:].partition(">, orig_to=<")
    fate = _FATES.get(status[0])
    if fate is None:  # a probe that verifies an address
        return None
    return Went(origin.at_us, f"{origin.host} {_checked(id)}", address, recipient or address, fate)


DAEMONS: Mapping[str, Parse] = {
    "smtpd": _smtpd,
    "postscreen": _postscreen,
    "cleanup": _cleanup,
    "qmgr": _qmgr,
    "nqmgr": _qmgr,
    "oqmgr": _qmgr,
    **dict.fromkeys(("smtp", "lmtp", "local", "virtual", "pipe", "error", "discard", "relay", "retry"), _delivery),
}
"""By the last part of the program's name."""
