"""Lines of Exim's main log as records.

Exim tells in one line of a message that it has taken over, with all that is wanted, and then of each delivery::

    2026-11-24 15:04:13 1tFAbC-000123-AB <= alice@example.com H=mail.example.com (helo) [192.0.2.7]:4711 P=esmtpsa
        A=plain:alice S=1234 id=... for bob@example.net carol@example.net
    2026-11-24 15:04:14 1tFAbC-000123-AB => bob <bob@example.net> R=local_user T=maildir
    2026-11-24 15:04:14 1tFAbC-000123-AB ** carol@example.net R=dnslookup T=remote_smtp: 550 no such user
    2026-11-24 15:04:14 1tFAbC-000123-AB Completed
    2026-11-24 15:04:15 H=(spam) [192.0.2.66] F=<a@example.org> rejected RCPT <x@example.net>: Unrouteable address

Message ids are those of 4.97 and later (1tFAbC-00000000123-ABCD) or the shorter ones of before. Source: the chapter
"Log files" of Exim's specification, https://www.exim.org/exim-html-current/doc/html/spec_html/ch-log_files.html.

How much there is depends on `log_selector`: connections and their ends come with ``+smtp_connection``, recipients that
were taken with ``+received_recipients`` (else those are known that a delivery was tried to), sessions are told apart by
``+incoming_port`` or ``+pid``; without these each message is a session.

An address may be long and full of what looks like a log, because clients choose it. So each part is looked for once, at
the place where Exim writes it, and a line takes time in proportion to its length.

Bugs: Exim logs no codes, so that a recipient does not exist is told by the usual words of the text.
"""

import re

from reputation.replay.postfix import address_of
from reputation.replay.records import (
    MAX_TEXT_LENGTH,
    Connected,
    Fate,
    Left,
    LoginFailed,
    Origin,
    Record,
    Refused,
    Removed,
    Taken,
    Turned,
    UnreadableLine,
    Went,
)

_LINE = re.compile(
    r"(?:\[(?P<pid>\d+)\] )?"
    r"(?:(?P<id>[0-9A-Za-z]{6}-(?:[0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4})) )?(?P<text>.*)"
)
_HOST = re.compile(r" ?(?:R=\S+ )?H=(?:([^\s(\[]\S*) )?(?:\((.*?)\) )?\[([0-9A-Fa-f.:]+)\](?::(\d+))?")
_ARRIVED = re.compile(r'<= (?:<>|("(?:[^"\\]|\\.)*"@\S+|[^\s<]\S*))(?: |$)')
_PROTOCOL = re.compile(r" P=(\S+)")
_LOGIN = re.compile(r" A=[^:\s]+:(\S+)")
_SIZE = re.compile(r" S=(\d+)")
_SUBJECT = re.compile(r' T="(?:[^"\\]|\\.)*"')
_WENT = re.compile(r"(=>|->|>>|\*\*|==) (\S+)(?: \([^)]*\))?(?: <([^>]*)>)?")
_FROM = " F=<"
_PATH = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^">])*)>')
"""What stands behind a "<": a quoted part may hold anything."""
_REJECTED = re.compile(r" (?P<later>temporarily )?rejected (?:(?P<verb>RCPT|MAIL) <|(?P<data>after DATA|DATA)\b)")
_UNKNOWN = re.compile(
    r"unrouteable address|unknown (?:user|recipient)|(?:user|recipient) unknown|no such|does ?n.t exist|does not exist",
    re.IGNORECASE,
)
_LOGIN_FAILED = re.compile(
    r"\S+ authenticator failed for .*?\[([0-9A-Fa-f.:]+)\](?::(\d+))?: 5\d\d [^(]*(?:\(set_id=([^)]*)\))?"
)
_CONNECTION = re.compile(r"SMTP connection from .*?\[([0-9A-Fa-f.:]+)\](?::(\d+))?(?: |$)")
_FATES = {
    "=>": Fate.SENT,
    "->": Fate.SENT,
    ">>": Fate.SENT,
    "**": Fate.BOUNCED,
    "==": Fate.DEFERRED,
}


def parse(text: str, origin: Origin) -> Record | None:
    """Read a line, from behind its date."""
    match = _LINE.match(text)
    assert match is not None  # all of its parts are optional
    pid, id, rest = match["pid"] or origin.pid, match["id"] or "", match["text"]
    origin = Origin(origin.at_us, origin.host, pid)
    if id and rest[:3] == "<= ":
        return _taken(rest, origin, f"{origin.host} {id}")
    if id and rest[:2] in _FATES:
        return _went(rest, origin.at_us, f"{origin.host} {id}")
    if id and (rest == "Completed" or rest.startswith("Completed ")):
        return Removed(origin.at_us, f"{origin.host} {id}")
    if len(rest) > MAX_TEXT_LENGTH:
        raise UnreadableLine
    if "rejected " in rest:
        return _refused(rest, origin)
    if " authenticator failed for " in rest:
        return _login_failed(rest, origin)
    return _connection(rest, origin) if rest.startswith("SMTP connection from ") else None


def _place(origin: Origin, client: str, port: str | None, otherwise: str = "") -> str:
    """Where a session is told apart: address and port, or the process; or else it is one of its own."""
    if port:
        return f"{origin.host} {client}:{port}"
    return f"{origin.host} {origin.pid or otherwise or client}"


def _taken(rest: str, origin: Origin, id: str) -> Taken:
    arrived = _ARRIVED.match(rest)
    if arrived is None:
        raise UnreadableLine
    rest = _SUBJECT.sub("", rest[len(arrived[0].rstrip(" ")) :], count=1)
    said, host = rest[:MAX_TEXT_LENGTH], _HOST.match(rest)
    protocol, login, size = (each.search(said) for each in (_PROTOCOL, _LOGIN, _SIZE))
    name, helo, client, port = host.groups() if host else ("", "", "", "")
    _, found, recipients = rest.rpartition(" for ")
    return Taken(
        origin.at_us,
        _place(origin, client, port, id),
        id,
        address_of(client),
        user=login[1] if login else "",
        helo=helo or name or "",
        tls=protocol is not None and protocol[1].removesuffix("a").endswith("s"),
        sender=arrived[1] or "",
        size=int(size[1]) if size else 0,
        recipients=tuple(recipients.split()) if found else (),
    )


def _went(rest: str, at_us: int, id: str) -> Went:
    match = _WENT.match(rest)
    if match is None:
        raise UnreadableLine
    mark, address, original = match.groups()
    # What was tried stands first; a colon begins the reason of a failure.
    address = address if address.startswith(":") else address.rstrip(":")
    return Went(at_us, id, address, original or address, _FATES[mark])


def _refused(rest: str, origin: Origin) -> Refused | None:
    host = _HOST.match(rest)
    if host is None:
        return None
    match, sender, user = _REJECTED.search(rest, host.end()), None, ""
    begin = rest.find(_FROM, host.end(), match.start()) if match else -1
    end = host.end()
    if begin >= 0:
        sender, end = _path(rest, begin + len(_FROM))
        match = _REJECTED.search(rest, end)  # the sender's name may hold those words
    if match is None:
        return None
    if login := _LOGIN.search(rest[end : match.start()]):
        user = login[1]
    address, end = _path(rest, match.end()) if match["verb"] else ("", match.end())
    what, recipient = _what(match, rest[end:]), address
    if what is Turned.SENDER:
        sender, recipient = address, ""
    name, helo, client, port = host.groups()
    place, said = _place(origin, client, port), helo or name or ""
    return Refused(origin.at_us, place, "", address_of(client), what, sender, recipient, user=user, helo=said)


def _path(rest: str, begin: int) -> tuple[str, int]:
    """The address that begins there, behind a "<", and where it ends. Raises `UnreadableLine`."""
    match = _PATH.match(rest, begin)
    if match is None:
        raise UnreadableLine
    return match[1], match.end()


def _what(match: re.Match[str], why: str) -> Turned:
    if match["verb"] == "MAIL":
        return Turned.SENDER
    if match["data"]:
        return Turned.MESSAGE
    return Turned.UNKNOWN_RECIPIENT if not match["later"] and _UNKNOWN.search(why) else Turned.RECIPIENT


def _login_failed(rest: str, origin: Origin) -> LoginFailed | None:
    match = _LOGIN_FAILED.match(rest)
    if match is None:
        return None
    client, port, login = match.groups()
    return LoginFailed(origin.at_us, _place(origin, client, port), address_of(client), login or "")


def _connection(rest: str, origin: Origin) -> Record | None:
    match = _CONNECTION.match(rest)
    if match is None:
        return None
    place = _place(origin, match[1], match[2])
    if "connection count" in rest:
        return Connected(origin.at_us, place, address_of(match[1]))
    return Left(origin.at_us, place)
