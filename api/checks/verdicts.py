"""A verdict as a mail server is told it."""

from dataclasses import dataclass

from reputation.verdict import Finding, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFinding:
    """A count that a rule looked at."""

    rule: str
    entity: str
    metric: str
    count: int
    limit: str
    retry_after_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedVerdict:
    """What to do with the event."""

    action: str
    """accept, tag, tarpit, throttle, tempfail, discard or reject."""
    reason: str
    rule: str = ""
    """The rule that decided."""
    entry: str = ""
    """The ban, or the place on a list, that decided."""
    reply: str = ""
    """Text for the client, as the rule has it; empty for words of your own."""
    retry_after_seconds: float = 0.0
    delay_seconds: float = 0.0
    """How long to hold the answer back."""
    tags: tuple[str, ...] = ()
    subject_prefixes: tuple[str, ...] = ()
    service: str = ""
    """The class of service that the message is in."""
    fired: tuple[str, ...] = ()
    """Rules in force that had a part in it."""
    would: tuple[str, ...] = ()
    """Rules in shadow mode that would have acted."""
    findings: tuple[CheckedFinding, ...] = ()
    """The counts of all these rules."""


def checked(verdict: Verdict) -> CheckedVerdict:
    """A verdict as a document."""
    named = {verdict.rule, *verdict.fired, *verdict.would} - {""}
    found = [_finding(each) for each in verdict.findings if each.rule in named] if named else []
    return CheckedVerdict(
        action=str(verdict.action),
        reason=str(verdict.reason),
        rule=verdict.rule,
        entry=verdict.entry,
        reply=verdict.reply,
        retry_after_seconds=round(verdict.retry_after_seconds, 3),
        delay_seconds=verdict.delay_seconds,
        tags=verdict.tags,
        subject_prefixes=verdict.subject_prefixes,
        service=verdict.service,
        fired=verdict.fired,
        would=verdict.would,
        findings=tuple(found),
    )


def _finding(finding: Finding) -> CheckedFinding:
    return CheckedFinding(
        rule=finding.rule,
        entity=str(finding.entity),
        metric=str(finding.metric),
        count=finding.reading.count,
        limit=finding.limit,
        retry_after_seconds=round(finding.reading.retry_after_seconds, 3),
    )
