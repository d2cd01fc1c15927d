"""``POST /v1/outcomes``: what became of messages, from filters, users, bounce handlers and feedback loops."""

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answered
from api.checks.bodies import Reader
from api.problems import Problem, ProblemType
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.desk.documents import OutcomeReport
from reputation.desk.feedback_reports import MEDIA_TYPES, report_in
from reputation.desk.reports import MAX_KEY, MAX_TEXT, outcome_of
from reputation.errors import ConfigError
from reputation.events import OutcomeKind

SCOPES = (Scope.CHECK, Scope.WRITE)
MAX_HEAD_OCTETS = 65_536
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class NewOutcome(BaseModel):
    """What somebody learned later about a message. Name as much of its envelope as is known."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Annotated[str, Field(json_schema_extra={"enum": list(OutcomeKind)})]
    client: Annotated[str, Field(max_length=60)] = ""
    """The address that it came from."""
    sender: Text = ""
    recipient: Text = ""
    user: Text = ""
    """Who had logged in."""
    author: Text = ""
    """The address in its From field."""
    helo: Text = ""
    subject: Text = ""
    sender_proven: bool = False
    """Whether the sender is known to have sent it (SPF, or a log-in). If not, it is not about him."""
    author_proven: bool = False
    """The same for the address in the From field (DKIM, DMARC)."""
    key: Annotated[str, Field(max_length=MAX_KEY)] = ""
    """Names the report: told twice, it is counted once."""

    def report(self) -> OutcomeReport:
        """As the desk takes it."""
        return OutcomeReport(**self.model_dump())


_READER = Reader(NewOutcome, "reports")


async def outcomes(request: Request) -> Response:
    """Count what became of messages: a report, an array of them, or a feedback report (ARF, RFC 5965) as it came.

    Nothing of a request is counted when one of its reports cannot be right. When the store does not take one, the
    answer is 503: send all of it again, with the same keys.
    """
    surroundings = surroundings_of(request)
    caller = surroundings.gate.either(request, *SCOPES)
    reports = _reports(request, await request.body(), surroundings.settings.api.max_batch)
    return answered(await surroundings.desk_of(caller.name).learn(reports))


def _reports(request: Request, body: bytes, most: int) -> list[OutcomeReport]:
    header = request.headers.get("content-type", "application/json")
    media_type = header.partition(";")[0].strip().lower()
    key = request.headers.get("idempotency-key", "")
    if media_type in MEDIA_TYPES:
        head = f"Content-Type: {header}\r\n\r\n".encode("latin-1", "replace")
        report = report_in(head + body if media_type == MEDIA_TYPES[0] and not _has_header(body) else body)
        return [replace(report, key=key) if key else report]
    if media_type != "application/json":
        detail = f"send application/json, or a feedback report as {' or '.join(MEDIA_TYPES)}"
        raise Problem(415, ProblemType.WRONG_MEDIA_TYPE, detail)
    found, is_array = _READER.read(body, most)
    if key and (len(found) != 1 or found[0].key not in ("", key)):
        raise Problem(
            400, ProblemType.BAD_REQUEST, "Idempotency-Key names one report: give each of several its own key"
        )
    reports = [(one.model_copy(update={"key": key}) if key else one).report() for one in found]
    for index, report in enumerate(reports if is_array else ()):
        _check(report, index)
    return reports


def _check(report: OutcomeReport, index: int) -> None:
    """Raise `ConfigError` that says which of several cannot be right."""
    try:
        outcome_of(report)
    except ConfigError as error:
        raise ConfigError(f"body.{index}: {error}") from None


def _has_header(body: bytes) -> bool:
    """Whether a multipart body is a whole message, with its own header."""
    head = body[:MAX_HEAD_OCTETS].replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")[0]
    return not head.startswith(b"--") and b"content-type:" in head.lower()
