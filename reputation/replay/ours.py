"""Lines of our own mail log as records: those that the SMTP front end writes.

    2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail action=accept reason=... from=<a@example.com> ...
    2026-11-24T15:04:13.456 INFO reputon.maillog message result=delivered id=... from=<a@example.com> nrcpt=1 ...

In front of this there may be what a journal or syslog puts there (date, host, program), the date of a container's log,
or the container's name and a bar. Nothing else: what a mail server quotes of a client may look like a line of ours, so
one that a program of Postfix or Exim wrote, or that begins with other words, is none.

Every line of a verdict is an attempt, and every attempt is an event, whatever the policy of then made of it.

Bugs: connections are in the log only where something was to be said about them (or at level debug), so a session is
taken to have connected when its first line was written. Recipients that the next hop refused are not told apart from
others.
"""

import re
from ipaddress import ip_address

from reputation.events import Stage
from reputation.replay.records import MAX_TEXT_LENGTH, Finished, Judged, Origin, Record, UnreadableLine
from reputation.verdict import DENYING

MARK = " reputon.maillog "
LINE = re.compile(
    r"(?:[\w.-]+ +\| )?"
    r"(?:(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) "
    r"(?:\S+ (?!postfix|exim|[^\s:]*/)[^\s:\[]+(?:\[\d+\])?: )?)?"
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?) [A-Z]+ reputon\.maillog (.*)"
)
"""For `match`, never `search`. All programs of Postfix have a slash in their names."""
_FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?: |$)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, origin: Origin) -> Record | None:
    """Read the message of a line. Raises `UnreadableLine` where a field is missing or cut."""
    kind, _, rest = text.partition(" ")
    if kind not in {"verdict", "message"}:
        return None
    fields = _fields(rest)
    try:
        place = f"{origin.host} {fields['session']}"
        if kind == "message":
            return Finished(origin.at_us, place, fields["result"])
        return Judged(
            origin.at_us,
            place,
            Stage(fields["stage"]),
            fields["action"] in DENYING,
            ip_address(fields["client"]),
            fields.get("user", ""),
            _address(fields.get("from", "")),
            _address(fields.get("to", "")),
            int(fields.get("size", 0)),
        )
    except (KeyError, ValueError):
        raise UnreadableLine from None


def _fields(text: str) -> dict[str, str]:
    if len(text) > MAX_TEXT_LENGTH:
        raise UnreadableLine
    fields, position = {}, 0
    # Each where the one before ends: to look for the next anywhere takes time with the square of the length.
    while match := _FIELD.match(text, position):
        name, quoted, plain = match.groups()
        fields[name] = plain if quoted is None else _unescaped(quoted)
        position = match.end()
    if position < len(text):
        raise UnreadableLine
    return fields


def _address(text: str) -> str:
    return text.removeprefix("<").removesuffix(">")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is not None:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else ""
    return _LETTERS.get(match[4], match[4])
