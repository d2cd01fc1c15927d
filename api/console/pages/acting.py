"""What can be done: each action has a page with its form, which a script shows in a dialog where there is one.

A form that was sent and cannot be met is shown again, with what was typed and what is wrong with it. One that was met
leads to where it was opened, with a notice.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.console import notices
from api.console.showing import page
from api.console.visits import Handler, Visit
from api.console.wording import dimension_of, place, value_of
from reputation.access import Scope
from reputation.desk.documents import NewEntry
from reputation.entries import ALLOW, BLOCK
from reputation.errors import ConfigError, StoreError
from reputation.verdict import REFUSING

HOURS = 3_600.0
DURATIONS: Mapping[str, tuple[str, float | None]] = {
    "1h": ("1 hour", HOURS),
    "24h": ("24 hours", 24 * HOURS),
    "7d": ("7 days", 168 * HOURS),
    "ever": ("For ever", None),
}
"""What is chosen -> its name, and how many seconds."""
AWAY = "Not done: the store does not answer. What you have typed is still here; try again in a moment."
MAX_LIMITS = 1_000
_FIELD = re.compile(r"([a-z_]{1,30}): ")

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One thing that can be done."""

    template: str
    scope: Scope
    act: Callable[[Visit], Awaitable[tuple[str, str]]]
    """Does it; where to go then, if the form does not say, and with which notice."""
    told: Callable[[Visit], Awaitable[Told]]
    """What the form shows besides what was typed."""
    leads_back: bool = True
    """Whether one comes back to where it was opened."""


def handler_of(form: Form) -> Handler:
    """Shows the form, and does what it says when it is sent."""

    async def handler(visit: Visit) -> Response:
        if not visit.is_sent:
            return await _shown(visit, form, 200, "")
        try:
            following, notice = await form.act(visit)
        except ConfigError as error:
            return await _shown(visit, form, 400, str(error))
        except StoreError:
            return await _shown(visit, form, 503, AWAY)
        back = visit.asked.place("back", following) if form.leads_back else following
        return RedirectResponse(_with_notice(back, notice), 303)

    return handler


async def _shown(visit: Visit, form: Form, status: int, mistake: str) -> Response:
    field = _FIELD.match(mistake)
    return await page(
        visit.request,
        form.template,
        status=status,
        asked=visit.asked,
        back=visit.asked.place("back", ""),
        mistake=mistake,
        wrong=field[1] if field else "",
        durations=DURATIONS,
        **await form.told(visit),
    )


def _with_notice(following: str, notice: str) -> str:
    following = re.sub(rf"[?&]{notices.FIELD}=[^&]*", "", following)
    return f"{following}{'&' if '?' in following else '?'}{notices.FIELD}={notice}"


async def _nothing(_: Visit) -> Told:
    return {}


def _seconds(visit: Visit) -> float | None:
    return DURATIONS[visit.asked.one_of("lasting", tuple(DURATIONS))][1]


# Ban, override, list


async def _ban(visit: Visit) -> tuple[str, str]:
    asked = visit.asked
    row = await visit.desk.put(
        NewEntry(
            kind="ban",
            target=asked.text("target"),
            reason=asked.text("reason"),
            expires_in_seconds=_seconds(visit),
            action=asked.text("action"),
            wide=asked.text("wide") == "yes",
        )
    )
    return place("entity", of=row.target), "banned"


async def _ban_choices(_: Visit) -> Told:
    return {"actions": tuple(map(str, REFUSING))}


async def _override(visit: Visit) -> tuple[str, str]:
    asked = visit.asked
    limits = tuple(re.split(r"[,\s]+", asked.text("limits")[:MAX_LIMITS].strip(", ")))
    row = await visit.desk.put(
        NewEntry(
            kind="override",
            target=asked.text("target"),
            reason=asked.text("reason"),
            expires_in_seconds=_seconds(visit),
            rule=asked.text("rule"),
            limits=tuple(filter(None, limits)),
        )
    )
    return place("entity", of=row.target), "overridden"


async def _rules_with_limits(visit: Visit) -> Told:
    try:
        return {"rules": [row for row in (await visit.desk.rules()).rules if row.limits]}
    except StoreError:
        return {"rules": []}


async def _list(visit: Visit) -> tuple[str, str]:
    asked = visit.asked
    row = await visit.desk.put(
        NewEntry(
            kind="list",
            target=asked.text("target"),
            reason=asked.text("reason"),
            expires_in_seconds=_seconds(visit),
            list=asked.text("list"),
            wide=asked.text("wide") == "yes",
        )
    )
    return place("entity", of=row.target), "listed"


async def _lists(visit: Visit) -> Told:
    entries = await visit.desk.entries(kind="list", n=1_000)
    return {"lists": sorted({ALLOW, BLOCK, *(row.list for row in entries.entries)})}


# Lift, release, forget, reload


async def _lift(visit: Visit) -> tuple[str, str]:
    await visit.desk.lift(visit.asked.text("id"), reason=visit.asked.text("reason"))
    return place("entries"), "lifted"


async def _entry(visit: Visit) -> Told:
    return {"entry": await visit.desk.entry(visit.asked.text("id"))}


async def _release(visit: Visit) -> tuple[str, str]:
    target = visit.asked.text("target")
    told = await visit.desk.release(target, reason=visit.asked.text("reason"))
    return place("entity", of=target), notices.coded("released", len(told.lifted))


async def _forget(visit: Visit) -> tuple[str, str]:
    of, typed = visit.asked.text("of"), visit.asked.text("typed")
    if not of or typed not in (of, value_of(of)):
        raise ConfigError(f"typed: type {value_of(of)} as it stands above, to show that this is whom you mean")
    told = await visit.desk.forget(of, reason=visit.asked.text("reason"))
    return place(""), notices.coded("forgotten", told.counters, told.verdicts)


async def _forgotten(visit: Visit) -> Told:
    of = visit.asked.text("of")
    return {"of": of, "dimension_name": dimension_of(of)}


async def _reload(visit: Visit) -> tuple[str, str]:
    told = await visit.desk.reload(reason=visit.asked.text("reason"))
    return place("rules"), notices.coded("reloading", told.rules)


FORMS: Mapping[str, Form] = {
    "ban": Form(template="forms/ban.html", scope=Scope.WRITE, act=_ban, told=_ban_choices),
    "override": Form(template="forms/override.html", scope=Scope.WRITE, act=_override, told=_rules_with_limits),
    "list": Form(template="forms/list.html", scope=Scope.WRITE, act=_list, told=_lists),
    "lift": Form(template="forms/lift.html", scope=Scope.WRITE, act=_lift, told=_entry),
    "release": Form(template="forms/release.html", scope=Scope.WRITE, act=_release, told=_nothing),
    "forget": Form(template="forms/forget.html", scope=Scope.ADMIN, act=_forget, told=_forgotten, leads_back=False),
    "reload": Form(template="forms/reload.html", scope=Scope.ADMIN, act=_reload, told=_nothing),
}
