"""The mail log: one line per verdict, log-in, refusal and message, ``key=value``, with stable keys.

Values that a client chose are escaped, so a line is always one line. A record carries its fields beside its text, for
who writes them another way (`reputation.log_lines`).
"""

import logging
import re
from collections.abc import Mapping

from reputation.events import Auth, Data, Event, Mail, Rcpt, Stage
from reputation.log_lines import MAIL_LINE, MailLine
from reputation.verdict import Action, Verdict
from smtp_frontend.reply import Reply

log = logging.getLogger("reputon.maillog")

_SPECIAL = re.compile(r'[ "\\=]')

QUIET = frozenset({Stage.CONNECT, Stage.HELO, Stage.DISCONNECT})
"""Stages whose plain acceptance is logged at debug level only."""
FAILED = frozenset({"refused", "not-delivered", "discarded"})
"""Results of a message that does not arrive."""


def verdict(event: Event, given: Verdict, held_seconds: float = 0.0, *, queue_id: str = "") -> None:
    """Log what was decided about `event`; `queue_id` is the mail server's, where it has said it."""
    quiet = given.action is Action.ACCEPT and event.stage in QUIET and not given.would and not given.service
    level = logging.DEBUG if quiet else logging.INFO
    if not log.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "stage": event.stage,
        "action": given.action,
        "reason": given.reason,
        "rule": given.rule,
        "entry": given.entry,
        **_reading(given),
        "would": ",".join(given.would),
        "tags": ",".join(given.tags),
        "service": given.service,
        "held": f"{held_seconds:.1f}" if held_seconds else "",
        **_envelope(event),
        "queue": queue_id,
        "client": event.session.client,
        "user": event.session.user,
        "session": event.session.id,
    }
    summary = f"{event.stage} {given.action} {given.reason}"
    line = MailLine(kind="verdict", summary=summary, succeeded=not given.denied, fields=fields)
    _write(level, line)


def message(**fields: object) -> None:
    """Log what became of a message."""
    result = str(fields.get("result", ""))
    _write(logging.INFO, MailLine(kind="message", summary=result, succeeded=result not in FAILED, fields=fields))


def refused(by: str, reply: Reply, event: Event) -> None:
    """Log a refusal that is no rule's: by a setting, or by the next hop."""
    session = event.session
    told = {"stage": event.stage, "by": by, "reply": reply, **_envelope(event), "client": session.client}
    fields: dict[str, object] = {**told, "user": session.user, "session": session.id}
    _write(logging.INFO, MailLine(kind="refused", summary=f"refused by {by}", succeeded=False, fields=fields))


def log_in(result: str, event: Auth) -> None:
    """Log how a log-in ended: accepted, denied, or unchecked."""
    session = event.session
    told = {"result": result, "login": event.login, "client": session.client, "user": session.user}
    fields: dict[str, object] = {**told, "session": session.id}
    _write(
        logging.INFO, MailLine(kind="log-in", summary=f"log-in {result}", succeeded=result == "accepted", fields=fields)
    )


def _write(level: int, line: MailLine) -> None:
    if log.isEnabledFor(level):
        log.log(level, "%s %s", line.kind, fields_of(line.fields), extra={MAIL_LINE: line})


def _reading(given: Verdict) -> dict[str, object]:
    finding = given.deciding
    if finding is None:
        return {}
    fields = {"key": finding.entity, "count": finding.reading.count, "limit": finding.limit}
    if given.retry_after_seconds:
        fields["retry_after"] = f"{given.retry_after_seconds:.1f}"
    return fields


def _envelope(event: Event) -> dict[str, object]:
    match event:
        case Auth(login=login):
            return {"login": login}
        case Mail(sender=sender):
            return {"from": f"<{sender}>"}
        case Rcpt(sender=sender, recipient=recipient):
            return {"from": f"<{sender}>", "to": f"<{recipient}>"}
        case Data(sender=sender, recipients=recipients, message_bytes=size):
            return {"from": f"<{sender}>", "nrcpt": len(recipients), "size": size}
        case _:
            return {}


def fields_of(fields: Mapping[str, object]) -> str:
    """``key=value`` pairs without the empty ones.

    >>> fields_of({"from": "<a b@example.com>", "rule": "", "note": "x\\ny"})
    'from="<a b@example.com>" note="x\\\\ny"'
    """
    return " ".join(
        [f"{key}={_value(str(value))}" for key, value in fields.items() if value != "" and value is not None]
    )


def _value(text: str) -> str:
    if text.isprintable() and not _SPECIAL.search(text):
        return text
    escaped = "".join(c if c.isprintable() and c not in '"\\' else _escape(c) for c in text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character.encode("unicode_escape").decode("ascii")
