"""An event as a mail server tells it in JSON, and the event that the engine judges.

Each stage has its fields (`FIELDS`): one that has no meaning there is a mistake, and not passed over, because a limit
on what was left out by a slip would count nothing.

Sessions of the API have no end that would be told, so `concurrent` does not count them.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.checks.bodies import Reader
from api.problems import Problem, ProblemType
from reputation.events import Auth, ClientAddress, Connect, Data, Event, Helo, Mail, Rcpt, Session, Stage

MAX_TEXT = 4_096
MAX_RECIPIENTS = 10_000
MAX_HEADER_FIELDS = 1_000
MAX_FIELD_TEXT = 1_000
MAX_KEY = 200
SESSION = "api"

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Octets = Annotated[int, Field(ge=0, le=2**40)]


class CheckedEvent(BaseModel):
    """What a mail server has seen, and asks about."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)

    stage: Annotated[
        str, Field(json_schema_extra={"enum": [stage for stage in Stage if stage is not Stage.DISCONNECT]})
    ]
    """Where in the session it is."""
    client: Annotated[str, Field(max_length=60, json_schema_extra={"format": "ip"})]
    """The address that has connected."""
    helo: Text = ""
    """The name that it has given."""
    user: Text = ""
    """Who has logged in; empty for nobody."""
    tls: bool = False
    early: bool = False
    """Whether it has spoken before it was greeted."""
    session: Annotated[str, Field(max_length=200)] = SESSION
    """What your log calls the session."""
    login: Text | None = None
    """At stage auth: who wants to log in."""
    success: bool | None = None
    """At stage auth: whether the password was right."""
    sender: Text | None = None
    """From stage mail on: the envelope sender, without angle brackets; empty for a bounce."""
    declared_bytes: Octets | None = None
    """At stage mail: the SIZE parameter."""
    recipient: Text | None = None
    """At stage rcpt."""
    recipients: Annotated[list[Text], Field(max_length=MAX_RECIPIENTS, fail_fast=True)] | None = None
    """At stage data: all that were accepted."""
    message_bytes: Octets | None = None
    """At stage data."""
    subject: Text | None = None
    author: Text | None = None
    """At stage data: the address in the From field."""
    header: Annotated[dict[Text, str], Field(max_length=MAX_HEADER_FIELDS)] | None = None
    """At stage data: the first of each field. What is folded is unfolded; of a long text the beginning is read."""
    content: str | None = None
    """At stage data: the whole message in base64, so that its signatures can be looked at, with CRLF at the ends of its
    lines."""
    key: Annotated[str, Field(max_length=MAX_KEY)] = ""
    """Names the question: asked again, it is counted once, and gets the same answer."""


COMMON = frozenset({"stage", "client", "helo", "user", "tls", "early", "session", "key"})


def _auth(told: CheckedEvent, session: Session) -> Event:
    return Auth(session=session, login=told.login or "", success=bool(told.success))


def _mail(told: CheckedEvent, session: Session) -> Event:
    return Mail(session=session, sender=told.sender or "", declared_bytes=told.declared_bytes or 0)


def _rcpt(told: CheckedEvent, session: Session) -> Event:
    return Rcpt(session=session, sender=told.sender or "", recipient=told.recipient or "")


def _data(told: CheckedEvent, session: Session) -> Event:
    content = _content(told.content)
    return Data(
        session=session,
        sender=told.sender or "",
        recipients=tuple(told.recipients or ()),
        message_bytes=len(content) if told.message_bytes is None else told.message_bytes,
        subject=told.subject or "",
        author=told.author or "",
        header=_header(told.header or {}),
        content=content,
    )


def _header(told: Mapping[str, str]) -> dict[str, str]:
    """As the front end reads one: names in lower case, texts on one line and bounded."""
    texts: dict[str, str] = {}
    for name, text in told.items():
        texts.setdefault(name.lower(), " ".join(text[: 4 * MAX_FIELD_TEXT].split())[:MAX_FIELD_TEXT])
    return texts


def _content(text: str | None) -> bytes:
    """The message; one with nothing but LF at the ends of its lines, as on disk, gets CRLF (RFC 5321 section 2.3.8)."""
    try:
        content = base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        raise _mistake("content", "no base64: RFC 4648 section 4, without line ends") from None
    return content if b"\r\n" in content else content.replace(b"\n", b"\r\n")


Make = Callable[[CheckedEvent, Session], Event]

FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str], Make]] = {
    Stage.CONNECT: (frozenset(), frozenset(), lambda _, session: Connect(session=session)),
    Stage.HELO: (frozenset({"helo"}), frozenset(), lambda _, session: Helo(session=session)),
    Stage.AUTH: (frozenset({"login", "success"}), frozenset(), _auth),
    Stage.MAIL: (frozenset({"sender"}), frozenset({"declared_bytes"}), _mail),
    Stage.RCPT: (frozenset({"sender", "recipient"}), frozenset(), _rcpt),
    Stage.DATA: (
        frozenset({"sender", "recipients"}),
        frozenset({"message_bytes", "subject", "author", "header", "content"}),
        _data,
    ),
}
"""Stage -> what must be told, what may be told besides, and the event it makes."""
assert FIELDS.keys() == set(Stage) - {Stage.DISCONNECT}


def event_of(told: CheckedEvent) -> Event:
    """The event that was told; raises `Problem` 400 that names the field at fault."""
    row = FIELDS.get(told.stage)
    if row is None:
        raise _mistake("stage", f'"{told.stage:.40}" is none of {", ".join(FIELDS)}')
    needed, possible, make = row
    given = told.model_fields_set
    if missing := needed - given:
        raise _mistake(min(missing), f"stage {told.stage} needs it")
    if foreign := given - COMMON - needed - possible:
        raise _mistake(min(foreign), f"has no meaning at stage {told.stage}")
    return make(told, _session(told))


def _session(told: CheckedEvent) -> Session:
    return Session(
        id=told.session or SESSION,
        client=_client(told.client),
        helo=told.helo,
        user=(told.login or "") if told.success else told.user,
        tls=told.tls,
        early=told.early,
        has_end=False,
    )


@lru_cache(maxsize=16_384)
def _client(text: str) -> ClientAddress:
    try:
        return ip_address(text.replace("%", " "))  # a zone is of one machine (RFC 4007): no address of a client
    except ValueError:
        raise _mistake("client", f'"{text:.60}" is no address: write one such as 192.0.2.7') from None


def _mistake(where: str, what: str) -> Problem:
    return Problem(400, ProblemType.BAD_REQUEST, f"{where}: {what}", errors=[{"where": where, "what": what}])


# Bodies

_READER = Reader(CheckedEvent, "events")


def told_in(body: bytes, most: int) -> tuple[Sequence[CheckedEvent], bool]:
    """The events in a body, and whether they are an array; raises `RequestValidationError`, `Problem`."""
    return _READER.read(body, most)


def events_of(told: Sequence[CheckedEvent], *, is_array: bool) -> list[Event]:
    """The events that were told; raises `Problem` that names the place of the first that cannot be."""
    events = []
    for index, each in enumerate(told):
        try:
            events.append(event_of(each))
        except Problem as problem:
            if not is_array:
                raise
            (mistake,) = problem.more["errors"]
            raise _mistake(f"{index}.{mistake['where']}", mistake["what"]) from None
    return events
