"""Reports of what became of messages, as outcomes that an engine learns."""

from ipaddress import ip_address

from reputation.desk.documents import OutcomeReport
from reputation.errors import ConfigError
from reputation.events import ClientAddress, Data, Outcome, OutcomeKind, Session

UNKNOWN_CLIENT = "0.0.0.0"  # noqa: S104 - nobody listens there, it stands for nobody
MAX_TEXT = 1_000
MAX_KEY = 200


def outcome_of(report: OutcomeReport) -> Outcome:
    """The outcome that a report tells of; raises `ConfigError` that names the field at fault."""
    if report.kind not in set(OutcomeKind):
        raise ConfigError(f'kind: "{report.kind:.40}" is none of {", ".join(OutcomeKind)}')
    named = (report.client, report.sender, report.user, report.author, report.helo, report.subject)
    if not any(named):
        raise ConfigError("name at least one of client, sender, user, author, helo, subject: whom is it about?")
    for field in ("sender", "recipient", "user", "author", "helo", "subject", "key"):
        if len(getattr(report, field)) > (MAX_KEY if field == "key" else MAX_TEXT):
            raise ConfigError(f"{field}: at most {MAX_KEY if field == 'key' else MAX_TEXT} characters")
    event = Data(
        session=Session(id="", client=_client(report.client), helo=report.helo, user=report.user, has_end=False),
        sender=report.sender,
        recipients=(report.recipient,) if report.recipient else (),
        message_bytes=0,
        subject=report.subject,
        author=report.author,
    )
    return Outcome(
        kind=OutcomeKind(report.kind),
        event=event,
        is_sender_proven=report.sender_proven or (bool(report.user) and report.user.lower() == report.sender.lower()),
        is_author_proven=report.author_proven,
        is_client_known=bool(report.client),
    )


def _client(text: str) -> ClientAddress:
    try:
        return ip_address(text.replace("%", " ") or UNKNOWN_CLIENT)  # a zone is of one machine: RFC 4007
    except ValueError:
        raise ConfigError(f'client: "{text:.60}" is no address: write one such as 192.0.2.7') from None
