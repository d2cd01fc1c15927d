"""Who is suspected, why, and what a rule in shadow mode would have done: what the live stream tells, added up."""

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import cast

from reputation.desk.describing import entry_row
from reputation.desk.documents import CaseFile, EntityPage, Suspect, Suspects, VerdictLine, WouldDo, WouldRow
from reputation.entries import Ban, Entry, spelled
from reputation.errors import ConfigError
from reputation.holds import HELD_BY
from reputation.keys import Dimension, Entity, composite
from reputation.register import Register
from reputation.verdict import DENYING

MAX_NAMED = 20
"""Of each kind in a case file."""
MAX_SHOWN = 100
"""Rows of those whom a rule would act upon."""
SHOWN_VERDICTS = 20
BLAMED = (Dimension.USER, Dimension.SENDER, Dimension.IP)
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


def suspects_of(register: Register, now: float, *, after: str = "", n: int = 100) -> Suspects:
    """One page of those whom a rule holds, the latest first; raises `ConfigError` for an `after` that was no `next`.

    Holds that are over are on no page, but count in `total` until the store has swept them.
    """
    held, entries = register.index.made(_held), register.index.by_id
    first = bisect_right(held, _end_of(after), key=lambda id: _order(entries[id], id)) if after else 0
    found = (cast(Ban, entries[id]) for id in islice(held, first, None))
    page = list(islice((ban for ban in found if ban.in_force(now)), n + 1))
    return Suspects(
        suspects=tuple(map(suspect_of, page[:n])),
        total=len(held),
        next=f"{page[n - 1].created_at!r} {page[n - 1].id}" if len(page) > n else None,
    )


def _held(entries: Mapping[str, Entry], before: Sequence[str] | None, others: AbstractSet[str]) -> Sequence[str]:
    """The ids of holds, the latest first; out of those of `before`, when only the entries of `others` may be others."""
    if before is None:
        ids = sorted(id for id, entry in entries.items() if is_hold(entry))
        return sorted(ids, key=lambda id: -entries[id].created_at)
    ids = [id for id in before if id not in others]
    for id in others:
        if is_hold(entries.get(id)):
            insort(ids, id, key=lambda id: _order(entries[id], id))
    return ids


def _order(entry: Entry, id: str) -> tuple[float, str]:
    return -entry.created_at, id


def _end_of(after: str) -> tuple[float, str]:
    """Behind whom a page begins: `next` of the one before, which says since when he is held, and who he is."""
    since, _, id = after.partition(" ")
    try:
        return -float(since), id
    except ValueError:
        raise ConfigError("after: what the page before has as its `next`; leave it out for the first page") from None


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


def would_do(rule: str, lines: Sequence[VerdictLine], since: float | None, *, key: Sequence[Dimension] = ()) -> WouldDo:
    """What a rule would have done, by the verdicts that it had a part in, the latest first; `key`: whom it counts."""
    would = [line for line in lines if rule in line.would]
    hit, accepted = Counter[str](), Counter[str]()
    for line in would:
        name = blamed(line, key)
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


def blamed(line: VerdictLine, key: Sequence[Dimension] = ()) -> str:
    """The entity that a verdict goes under: the one that the rule counts, or else the surest name there is."""
    parts = (entity.partition(":") for entity in line.entities)
    named = {Dimension(name): Entity(name, id) for name, _, id in parts if name in set(Dimension)}
    if key and (counted := composite(named, key)) is not None:
        return str(counted)
    return next((str(named[name]) for name in BLAMED if name in named), f"ip:{line.client}")
