"""What a message carries away from here: the fields on its top, and the words of its log line. No I/O.

Tags and the class of service are those of all that was decided about the message and whoever sent it, from the connect
to the message itself. Of classes, the latest stage that names one decides: it knows what was known before, and more.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from reputation.events import Data
from reputation.verdict import Verdict
from smtp_frontend import authentication_results, headers
from smtp_frontend.transaction import Transaction
from smtp_frontend.visitor import Visitor


def verdicts_of(visitor: Visitor, transaction: Transaction) -> tuple[Verdict, ...]:
    """All verdicts about a message, in the order of the stages."""
    return (*visitor.verdicts.values(), *transaction.verdicts)


def service_of(verdicts: Sequence[Verdict]) -> str:
    """The class of service that the latest stage which names one has given; empty when none did."""
    return next((verdict.service for verdict in reversed(verdicts) if verdict.service), "")


def fields(
    visitor: Visitor, transaction: Transaction, told: Data | None, *, hostname: str, id: str, at: datetime
) -> list[bytes]:
    """Received, why the message was let through, and what was found out about it where that is to be `told`."""
    verdicts = verdicts_of(visitor, transaction)
    tags = tuple(tag for verdict in verdicts for tag in verdict.tags)
    lone = transaction.recipients[0] if len(transaction.recipients) == 1 else ""
    protocol = protocol_of(visitor, smtputf8=transaction.command.smtputf8)
    top = [
        headers.received(visitor.facts, hostname=hostname, protocol=protocol, id=id, recipient=lone, at=at),
        headers.verdict_field(
            transaction.shown,
            tags,
            id,
            service_of(verdicts),
            filtered=transaction.verdicts[-1].looked_up.filtered.verdict,
            private=bool(visitor.facts.user),
        ),
    ]
    if told is not None and not visitor.facts.user:
        top.append(authentication_results.field(hostname, told, transaction.verdicts[-1].looked_up))
    return top


def passed_on(split: headers.Split, verdict: Verdict, prefixes: Iterable[str], *, hostname: str) -> bytes:
    """The message's own header block: without what only we may set, with what rules and filters want in it."""
    filtered = verdict.looked_up.filtered
    kept = authentication_results.without_ours(split.without_verdict(), hostname)
    if filtered.removed:
        kept = headers.without(kept, filtered.removed)
    for prefix in dict.fromkeys(prefixes):
        kept = headers.with_subject_prefix(kept, prefix)
    return b"".join((*(headers.added(name, value) for name, value in filtered.headers), kept))


def protocol_of(visitor: Visitor, *, smtputf8: bool) -> str:
    """How the message came. RFC 3848 and RFC 6531 section 4.3."""
    name = "UTF8SMTP" if smtputf8 else "ESMTP" if visitor.esmtp else "SMTP"
    facts = visitor.facts
    return f"{name}{'S' * facts.tls}{'A' * bool(facts.user)}" if visitor.esmtp else name
