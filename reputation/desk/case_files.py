"""Who is suspected, why, and what a rule in shadow mode would have done: what the live stream tells, added up."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from reputation.desk.describing import entry_row
from reputation.desk.documents import CaseFile, EntityPage, Suspect, Suspects, VerdictLine, WouldDo, WouldRow
from reputation.entries import Ban, spelled
from reputation.holds import HELD_BY
from reputation.register import Register
from reputation.verdict import DENYING

MAX_NAMED = 20
"""Of each kind in a case file."""
MAX_SHOWN = 100
"""Rows of those whom a rule would act upon."""
SHOWN_VERDICTS = 20
BLAMED = ("user", "sender", "ip")
"""Whose name a verdict goes under, the surest first: a log-in cannot be forged, a sender can."""

ADVICE: Mapping[str, tuple[str, ...]] = {
    "user": (
        "Ask the owner by another way than mail whether the messages are theirs.",
        "If not: change the password, end all sessions, look for forwards and filters that were added, then release.",
        "If they are (a newsletter, an event): release, and give the account limits of its own while it lasts.",
    ),
    "ip": (
        "See whose network it is and whether others of its prefix do the same.",
        "If it is a relay or gateway that you know, put it on the list allow, or on never_ban.",
    ),
    "": (
        "Look at the latest verdicts: what was it refused for, and is it still coming?",
        "If it was right, let the hold end by itself; if not, release, and change the rule's limits.",
    ),
}
"""What to do, by dimension."""


def suspects_of(register: Register, now: float) -> Suspects:
    """All whom a rule holds, the latest first."""
    held = [entry for entry in register.entries if is_hold(entry) and entry.in_force(now)]
    found = [suspect_of(ban) for ban in held if isinstance(ban, Ban)]
    return Suspects(suspects=tuple(sorted(found, key=lambda each: -each.since)))


def is_hold(entry: object) -> bool:
    """Whether an entry is a ban that a rule has put down."""
    return isinstance(entry, Ban) and entry.author.startswith(HELD_BY)


def suspect_of(ban: Ban) -> Suspect:
    """Whom a rule holds."""
    row = entry_row(ban)
    return Suspect(
        entity=spelled(ban.target),
        rule=ban.author.removeprefix(HELD_BY),
        since=row.created_at,
        until=row.expires_at,
        reason=row.reason,
    )


def case_file(page: EntityPage, suspect: Suspect | None, lines: Sequence[VerdictLine]) -> CaseFile:
    """The case file of an entity, with what the stream knows of it."""
    times = [line.at for line in lines]
    dimension = page.entity.partition(":")[0]
    return CaseFile(
        suspect=suspect,
        page=page,
        first_seen=min(times, default=None),
        last_seen=max(times, default=None),
        clients=_most(line.client for line in lines),
        asns=_most(str(line.asn) for line in lines if line.asn),
        countries=_most(line.country for line in lines),
        recipients=_most(recipient for line in lines for recipient in line.recipients),
        actions=_most(line.action for line in lines),
        advice=ADVICE.get(dimension, ADVICE[""]),
    )


def _most(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(name for name in names if name).most_common(MAX_NAMED))


def would_do(rule: str, lines: Sequence[VerdictLine], since: float | None) -> WouldDo:
    """What a rule would have done, by the verdicts that it had a part in, the latest first."""
    would = [line for line in lines if rule in line.would]
    hit, accepted = Counter[str](), Counter[str]()
    for line in would:
        name = blamed(line)
        hit[name] += 1
        accepted[name] += passes(line)
    rows = [WouldRow(entity=name, verdicts=n, accepted=accepted[name]) for name, n in hit.most_common(MAX_SHOWN)]
    return WouldDo(
        rule=rule,
        since=since,
        verdicts=len(would),
        changed=sum(map(passes, would)),
        rows=tuple(rows),
        recent=tuple(would[:SHOWN_VERDICTS]),
    )


def passes(line: VerdictLine) -> bool:
    """Whether a verdict let its event take place."""
    return line.action not in {str(action) for action in DENYING}


def blamed(line: VerdictLine) -> str:
    """The entity that a verdict goes under."""
    by_dimension = {entity.partition(":")[0]: entity for entity in line.entities}
    return next((by_dimension[name] for name in BLAMED if name in by_dimension), f"ip:{line.client}")
