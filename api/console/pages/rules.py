"""Rules in force with their counts; one rule, and what it would do if it were enforced."""

from itertools import groupby

from starlette.responses import Response

from api.console.showing import page
from api.console.visits import Visit
from reputation.desk.documents import WouldDo
from reputation.errors import NothingThere
from reputation.rules import Mode


async def rules(visit: Visit) -> Response:
    """All of them, by stage."""
    told = await visit.desk.rules()
    stages = [(stage, tuple(rows)) for stage, rows in groupby(told.rules, key=lambda row: row.stage)]
    merged: dict[str, list[object]] = {}
    for stage, rows in stages:
        merged.setdefault(stage, []).extend(rows)
    shadow = sum(row.mode == Mode.SHADOW for row in told.rules)
    return await page(visit.request, "rules.html", stages=merged, total=len(told.rules), shadow=shadow)


async def rule(visit: Visit) -> Response:
    """One of them."""
    name = visit.asked.text("name")
    told = await visit.desk.rules()
    row = next((row for row in told.rules if row.rule == name), None)
    if row is None:
        raise NothingThere(f'there is no rule "{name:.80}" in force')
    would: WouldDo | None = await visit.desk.would_do(name) if row.mode == Mode.SHADOW else None
    return await page(visit.request, "rule.html", row=row, would=would, most=_most(would))


def _most(would: WouldDo | None) -> int:
    return max((row.verdicts for row in would.rows), default=0) if would else 0
