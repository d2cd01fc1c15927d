"""Pages out of templates: everything is escaped, and everything odd in a text is made visible, unless it is markup.

A template that names what is not there fails (and its test does): nothing is shown as empty by mistake. What a
template puts out as text goes through `plainly` first, in attributes as well; a stranger's value is shown by `visible`.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from api.console import charts, notices, wording
from api.console.assets import asset_place
from api.console.visits import THEMES, theme_of, visit_of

TEMPLATES = Path(__file__).parent / "templates"
HTML = "text/html; charset=utf-8"


async def page(request: Request, template: str, *, status: int = 200, **told: Any) -> Response:
    """A page. Written in a thread: a thousand rows take as long as many verdicts."""
    octets = await asyncio.to_thread(rendered, request, template, **told)
    return Response(octets, status, media_type=HTML)


def rendered(request: Request, template: str, **told: Any) -> bytes:
    """A page, as octets; what no UTF-8 can say is a question mark."""
    visit = visit_of(request)
    text = (
        environment()
        .get_template(template)
        .render(
            visit=visit,
            now=visit.now if visit else 0.0,
            notice=notices.of_request(request),
            theme=theme_of(request),
            **told,
        )
    )
    return text.encode("utf-8", "replace")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "visible": wording.visible,
    "cut": wording.cut,
    "number": wording.number,
    "octets": wording.octets,
    "lasting": wording.lasting,
    "moment": wording.moment,
    "clock": wording.clock_time,
    "machine": wording.machine_time,
    "dimension": wording.dimension_of,
    "value": wording.value_of,
}
KNOWN: Mapping[str, Any] = {
    "place": wording.place,
    "relative": wording.relative,
    "why": wording.why,
    "becomes": wording.ACTIONS,
    "asset": asset_place,
    "meter": charts.meter,
    "themes": THEMES,
}
"""What every template can name."""


@lru_cache
def environment() -> Environment:
    """The templates, with what they know."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.globals.update(KNOWN)
    return made


def _finalized(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup):
        return wording.plainly(value)
    return "" if value is None else value
