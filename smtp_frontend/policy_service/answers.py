"""Verdicts into the actions of access(5): https://www.postfix.org/access.5.html. No I/O.

The codes are those of `smtp_frontend.answers`, so that a client hears the same from our own front end and from Postfix.

==========  =================================================================================================
verdict     action
==========  =================================================================================================
accept      DUNNO: whatever stands below us in the list of restrictions is asked as well. Never OK.
tag         PREPEND with our field, where the setting `prepend` wants it; else DUNNO
tarpit      the same, later
throttle    held back, and when that is not enough as tempfail
tempfail    DEFER_IF_PERMIT, or the code: see below
discard     DISCARD, of a recipient's copy when the message has come: Postfix discards it for all or for none
reject      550 5.7.1, or the code of the rule
==========  =================================================================================================

Why DEFER_IF_PERMIT: with a code of 4xx Postfix stops asking, and a recipient that does not exist, or a client on a
block list that stands below us, would be told to come again, for days. With DEFER_IF_PERMIT the rest is asked first,
and a permanent refusal wins. The code is then Postfix' `access_map_defer_code` (450). A rule that brings a code of its
own has that, at once; so has 421, after which Postfix hangs up, and whatever is decided about a whole message.

Does not do: say when (`service`), remember (`visits`).
"""

from reputation.events import Stage
from reputation.verdict import Action, Verdict
from smtp_frontend import answers, headers
from smtp_frontend.policy_service.requests import AFTER_RECIPIENTS, State

DUNNO = "DUNNO"
DISCARD = "DISCARD triggers DISCARD by policy"
"""Postfix logs "Recipient address", or the like, and this text."""
MAX_FIELD_LENGTH = 980
"""Our field is one line: RFC 5322 section 2.1.1 ends it at 998, and Postfix at 990 (smtp_line_length_limit)."""
TROUBLE = {
    "DUNNO": DUNNO,
    "DEFER_IF_PERMIT": f"DEFER_IF_PERMIT {answers.OUR_TROUBLE.one_line.partition(' ')[2]}",
}
"""The setting `on_trouble` -> what is answered."""


def refusal(stage: Stage, verdict: Verdict, state: State) -> str | None:
    """The action for a verdict that refuses; None when the verdict lets the event pass, or discards."""
    # Who sends has logged in already, and would not understand an answer to AUTH.
    told_at = Stage.MAIL if stage is Stage.AUTH else stage
    reply = answers.refusal(told_at, verdict)
    if reply is None:
        return None
    text = " ".join((reply.enhanced, *reply.text_lines)).strip()
    is_own = reply.code != answers.CODES[told_at][Action.REJECT if reply.permanent else Action.TEMPFAIL][0]
    if reply.permanent or is_own or reply.code == answers.CLOSING.code or state in AFTER_RECIPIENTS:
        return f"{reply.code} {text}"
    return f"DEFER_IF_PERMIT {text}"


def prepended(shown: Verdict, tags: tuple[str, ...], id: str, service: str, *, private: bool = False) -> str:
    """Our field as an action: one line, cut between two words where it would be too long. `private` as there."""
    field = headers.verdict_field(shown, tags, id, service, private=private).decode("ascii")
    line = " ".join(field.split())
    if len(line) > MAX_FIELD_LENGTH:
        line = line[: MAX_FIELD_LENGTH + 1].rpartition(" ")[0]
    return f"PREPEND {line}"
