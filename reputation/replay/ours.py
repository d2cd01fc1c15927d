"""Lines of our own mail log as records: those that the SMTP front end writes.

    2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail action=accept reason=... from=<a@example.com> ...
    2026-11-24T15:04:13.456 INFO reputon.maillog message result=delivered id=... from=<a@example.com> nrcpt=1 ...

What came before this, such as the date of a journal, is passed over.

Every line of a verdict is an attempt, and every attempt is an event, whatever the policy of then made of it.

Bugs: connections are in the log only where something was to be said about them (or at level debug), so a session is
taken to have connected when its first line was written. Recipients that the next hop refused are not told apart from
others.
"""

import re
from ipaddress import ip_address

from reputation.events import Stage
from reputation.replay.records import Finished, Judged, Origin, Record, UnreadableLine
from reputation.verdict import DENYING

MARK = " reputon.maillog "
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?) [A-Z]+ reputon\.maillog (.*)")
_FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?: |$)')
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, origin: Origin) -> Record | None:
    """Read the message of a line. Raises `UnreadableLine` where a field is missing."""
    kind, _, rest = text.partition(" ")
    if kind not in {"verdict", "message"}:
        return None
    fields = {name: plain if quoted is None else _unescaped(quoted) for name, quoted, plain in _fields(rest)}
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


def _fields(text: str) -> list[tuple[str, str | None, str]]:
    return [(match[1], match[2], match[3]) for match in _FIELD.finditer(text)]


def _address(text: str) -> str:
    return text.removeprefix("<").removesuffix(">")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is not None:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else ""
    return _LETTERS.get(match[4], match[4])
