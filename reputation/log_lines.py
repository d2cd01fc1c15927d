"""How lines of the log are written: as text, or each as one JSON object with the names of the Elastic Common Schema.

    text   2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail action=tempfail ... client=192.0.2.7
    json   {"@timestamp": "2026-11-24T14:04:13.123Z", "log.level": "info", ..., "source.ip": "192.0.2.7"}

Text is in the machine's time, as the logs beside it are; JSON in UTC. A line of the mail log carries a `MailLine`, and
`FIELDS` says how each of its fields is called in JSON; docs/configuration.md has the same table. What is empty is left
out. A field that the table does not know is called ``reputon.`` and its name.

An object is one line of ASCII whatever a client chose: everything else in it is escaped. An octet that is no UTF-8
stands in it as ``\\udcff`` in six characters, because many a reader of JSON refuses a lone surrogate.

Bugs: what Python itself prints when it cannot start, or crashes, is no JSON.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

ECS_VERSION = "8.11.0"
MAIL_LINE = "mail_line"
"""The attribute of a record that has a `MailLine`."""


def _addresses(text: str) -> list[str]:
    return [text.removeprefix("<").removesuffix(">")]


def _words(text: str) -> list[str]:
    return text.split(",")


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of the mail log is in JSON."""

    name: str
    read: Callable[[str], object] = str


FIELDS: Mapping[str, Field] = {
    "stage": Field("reputon.stage"),
    "action": Field("event.action"),
    "result": Field("event.action"),
    "reason": Field("event.reason"),
    "rule": Field("rule.name"),
    "entry": Field("reputon.entry"),
    "by": Field("reputon.by"),
    "key": Field("reputon.key"),
    "count": Field("reputon.count", int),
    "limit": Field("reputon.limit"),
    "retry_after": Field("reputon.retry_after_seconds", float),
    "would": Field("reputon.would", _words),
    "tags": Field("reputon.tags", _words),
    "service": Field("reputon.service"),
    "held": Field("reputon.held_seconds", float),
    "id": Field("email.local_id"),
    "message_id": Field("email.message_id"),
    "from": Field("email.from.address", _addresses),
    "to": Field("email.to.address", _addresses),
    "nrcpt": Field("reputon.recipients", int),
    "discarded": Field("reputon.discarded", int),
    "size": Field("reputon.message_bytes", int),
    "filter": Field("reputon.filter"),
    "score": Field("reputon.score", float),
    "malware": Field("reputon.malware"),
    "reply": Field("reputon.reply"),
    "queue": Field("reputon.queue"),
    "client": Field("source.ip"),
    "user": Field("user.name"),
    "login": Field("reputon.login"),
    "session": Field("reputon.session"),
}
"""Names are stable: dashboards stand on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailLine:
    """A line of the mail log before it is written."""

    kind: str
    """``verdict``, ``log-in``, ``refused`` or ``message``."""
    summary: str
    succeeded: bool
    """Whether the client got what it asked for."""
    fields: Mapping[str, object]


def start_log(level: int | str, format: str = "text") -> None:
    """Log to standard error from now on, one line each; `format` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else text_lines())
    # Where in the source a line was written, and in which thread, stands in none of them, and takes time to find out.
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None  # as the library's own documentation says
    logging.basicConfig(level=level, handlers=[handler])


def text_lines() -> logging.Formatter:
    """Writes text. A traceback has lines of its own."""
    return TextLines("{asctime}", "%Y-%m-%dT%H:%M:%S", style="{")


class TextLines(logging.Formatter):
    """Writes text. Two thousand lines a second share their seconds, and need no template."""

    _second, _written = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """The second of a record."""
        second = int(record.created)
        if second != self._second:
            self._second, self._written = second, super().formatTime(record, datefmt)
        return self._written

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Its line, without a traceback."""
        return f"{record.asctime}.{record.msecs:03.0f} {record.levelname} {record.name} {record.message}"


class JsonLines(logging.Formatter):
    """Writes one JSON object a line, tracebacks and all."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return json.dumps({name: _clean(value) for name, value in self._values(record)})

    def _values(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        line: MailLine | None = getattr(record, MAIL_LINE, None)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        yield "@timestamp", at.replace("+00:00", "Z")
        yield "log.level", record.levelname.lower()
        yield "message", line.summary if line else record.getMessage()
        yield "ecs.version", ECS_VERSION
        yield "log.logger", record.name
        yield "service.name", "reputon"
        yield "process.pid", record.process
        if line is not None:
            yield from _mail(line)
        if record.exc_info and (error := record.exc_info[1]) is not None:
            yield "error.type", type(error).__name__
            yield "error.message", str(error)
            yield "error.stack_trace", self.formatException(record.exc_info)


def _mail(line: MailLine) -> Iterator[tuple[str, object]]:
    yield "event.dataset", f"reputon.{line.kind}"
    yield "event.outcome", "success" if line.succeeded else "failure"
    for key, value in line.fields.items():
        if value not in ("", None):
            field, text = FIELDS.get(key, Field(f"reputon.{key}")), str(value)
            try:
                yield field.name, field.read(text)
            except ValueError:  # of a word where a number was: it is told as it is
                yield field.name, text


def _clean(value: object) -> object:
    """The value as JSON can have it."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list():
            return [_clean(one) for one in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
