"""What rspamd's answer to ``/checkv2`` says: JSON into a `Filtered`. Pure.

Its action becomes the verdict (`VERDICTS`); one that the operator has named himself, and that we do not know, is
unsure. Who skipped the message has judged nothing. A test of an antivirus scanner means malware whatever the action:
rspamd's own settings give it no weight. It is known by its name (``CLAM_VIRUS``; ``CLAM_VIRUS_FAIL``, ``_ENCRYPTED``
and ``_MACRO`` are no finds), or by the score of its group, where its patterns have names of their own.

Bugs: `removed` has all fields of a name, where rspamd can ask for the n-th of them. The place that it wants for a field
is not heard: all go on top.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping

from reputation.facts import NOT_FILTERED, Filtered, Judgement
from reputation.lookups.filters import wording

NO_ACTION = "no action"
VERDICTS: Mapping[str, Judgement] = {
    NO_ACTION: Judgement.HAM,
    "greylist": Judgement.UNSURE,
    "add header": Judgement.SPAM,
    "rewrite subject": Judgement.SPAM,
    "soft reject": Judgement.DEFER,
    "reject": Judgement.SPAM,
}
REFUSALS = ("reject", "soft reject")
ANTIVIRUS = "antivirus"
"""rspamd's group of scanners."""
MAX_SYMBOLS = 300
MAX_FIELDS = 50
MAX_NAME_LENGTH = 100
_FIND = re.compile(r"(?:[A-Z0-9_]*_)?VIRUS")
_NO_FIND = re.compile(r"_(?:FAIL|ENCRYPTED|MACRO)$")

Json = Mapping[str, object]


def filtered_of(octets: bytes) -> Filtered | None:
    """The answer in `octets`; None for what is none."""
    try:
        answer = json.loads(octets)
    except (ValueError, RecursionError):  # no JSON, no UTF-8; brackets without end
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("action"), str):
        return None
    action = wording.line(answer["action"], MAX_NAME_LENGTH)
    if answer.get("is_skipped") is True and action == NO_ACTION:  # GTUBE skips the tests, and is rejected
        return NOT_FILTERED
    malware = _malware(answer)
    fields = tuple(_fields(answer))
    return Filtered(
        verdict=Judgement.MALWARE if malware else VERDICTS.get(action, Judgement.UNSURE),
        score=_number(answer.get("score")),
        action=action,
        symbols=tuple(wording.line(name, MAX_NAME_LENGTH) for name in list(_object(answer, "symbols"))[:MAX_SYMBOLS]),
        malware=malware,
        headers=fields[:MAX_FIELDS],
        removed=tuple(_removed(answer))[:MAX_FIELDS],
        reply=_reply(answer) if action in REFUSALS else "",
    )


def _object(json_object: Json, name: str) -> Json:
    found = json_object.get(name)
    return found if isinstance(found, dict) else {}


def _number(found: object) -> float:
    """JSON's numbers have no bounds, and Python reads NaN and Infinity."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0.0
    try:
        number = float(found)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _malware(answer: Json) -> str:
    """What a scanner has found; empty when none has."""
    symbols = _object(answer, "symbols")
    for name in symbols:
        if _FIND.fullmatch(name):
            options = _object(symbols, name).get("options")
            told = options[0] if isinstance(options, list) and options and isinstance(options[0], str) else ""
            return wording.line(told, MAX_NAME_LENGTH) or wording.line(name, MAX_NAME_LENGTH)
    score = _number(_object(_object(answer, "groups"), ANTIVIRUS).get("score"))
    return ANTIVIRUS if score > 0 and not any(map(_NO_FIND.search, symbols)) else ""


def _fields(answer: Json) -> Iterator[tuple[str, str]]:
    """Fields for the top of the message: a signature (one or several), a new subject, and what else it wants."""
    wanted = [("DKIM-Signature", answer.get("dkim-signature"))]
    if answer.get("action") == "rewrite subject":
        wanted.append(("Subject", answer.get("subject")))
    wanted += _object(_object(answer, "milter"), "add_headers").items()
    for name, found in wanted:
        for one in found if isinstance(found, list) else [found]:
            field = wording.field(name, one.get("value") if isinstance(one, dict) else one)
            if field is not None:
                yield field


def _removed(answer: Json) -> Iterator[str]:
    if answer.get("action") == "rewrite subject" and wording.field("Subject", answer.get("subject")):
        yield "Subject"
    yield from filter(wording.is_name, _object(_object(answer, "milter"), "remove_headers"))


def _reply(answer: Json) -> str:
    text = _object(answer, "messages").get("smtp_message")
    return wording.line(text, wording.MAX_REPLY_LENGTH) if isinstance(text, str) else ""
