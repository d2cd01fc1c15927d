"""`reputon outcome`: what somebody learned later about a message."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reputation.cli import completing
from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.options import JsonOption, asking
from reputation.cli.printing import BESIDE, WELL, line
from reputation.desk.documents import OutcomeReport, OutcomeResults
from reputation.desk.feedback_reports import report_in
from reputation.errors import ConfigError

MAX_REPORT_OCTETS = 2**21
STANDARD_INPUT = Path("-")


KindArgument = Annotated[
    str,
    typer.Argument(metavar="KIND", help="spam, ham, bounce, complaint, ...", autocompletion=completing.outcomes),
]
ClientOption = Annotated[str, typer.Option(metavar="ADDRESS", help="The address that it came from.")]
SenderOption = Annotated[str, typer.Option(metavar="ADDRESS", help="Its envelope sender.")]
RecipientOption = Annotated[str, typer.Option(metavar="ADDRESS", help="Who got it.")]
UserOption = Annotated[str, typer.Option(metavar="LOGIN", help="Who had logged in.")]
AuthorOption = Annotated[str, typer.Option(metavar="ADDRESS", help="The address in its From field.")]
HeloOption = Annotated[str, typer.Option(metavar="NAME", help="How the client called itself.")]
SubjectOption = Annotated[str, typer.Option(metavar="TEXT", help="Its subject.")]
ProvenOption = Annotated[bool, typer.Option("--sender-proven", help="The sender sent it, by SPF, DKIM or a log-in.")]
AuthorProvenOption = Annotated[bool, typer.Option("--author-proven", help="Likewise the author.")]
KeyOption = Annotated[str, typer.Option(metavar="KEY", help="Names the report: told twice, it is counted once.")]
ArfOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A feedback report (RFC 5965) instead; - for stdin.")
]


@asking
def outcome(
    where: Where,
    kind: KindArgument = "",
    *,
    client: ClientOption = "",
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    user: UserOption = "",
    author: AuthorOption = "",
    helo: HeloOption = "",
    subject: SubjectOption = "",
    sender_proven: ProvenOption = False,
    author_proven: AuthorProvenOption = False,
    key: KeyOption = "",
    arf: ArfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of a message.

    That it was spam, or wanted, came back, was complained about. Name as much of it as is known.
    """
    if (arf is None) == (not kind):
        raise typer.BadParameter("name what it was, such as spam, or --arf with a report: one of them")
    report = OutcomeReport(kind=kind, client=client, sender=sender, recipient=recipient, user=user, helo=helo)
    report = replace(report, author=author, subject=subject, key=key)
    report = replace(report, sender_proven=sender_proven, author_proven=author_proven)
    told = report if arf is None else _report_in(arf, key)
    answer(where, lambda desk: desk.learn([told]), show, as_json=as_json)


def show(console: Console, told: OutcomeResults, _now: float) -> None:
    """Say whom it was counted for or against."""
    for result in told.results:
        if result.status == "duplicate":
            line(console, "counted before: nothing was done", BESIDE)
            continue
        line(console, f"counted for {', '.join(result.entities) or 'nobody: none of its names is proven'}", WELL)


def _report_in(arf: Path, key: str) -> OutcomeReport:
    """What a feedback report says; raises `ConfigError`."""
    try:
        with sys.stdin.buffer if arf == STANDARD_INPUT else arf.open("rb") as file:
            octets = file.read(MAX_REPORT_OCTETS + 1)
    except OSError as error:
        raise ConfigError(f"{arf}: cannot be read: {error.strerror}") from None
    if len(octets) > MAX_REPORT_OCTETS:
        raise ConfigError(f"{arf}: more than {MAX_REPORT_OCTETS // 2**20} MB: this is no report")
    report = report_in(octets)
    return replace(report, key=key) if key else report
