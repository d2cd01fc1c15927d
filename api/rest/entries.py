"""What operators have put down, of all kinds, page by page; and what the three kinds share."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from fastapi import Request, Response

from api.answers import answered, revalidated
from api.rest import examples
from api.rest.parameters import After, EntriesN, Matching
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope
from reputation.desk.documents import EntryRow, NewEntry


async def get_entries(request: Request, matching: Matching = "", after: After = "", n: EntriesN = 100) -> Response:
    """Bans, overrides and lists in force, in the order of ids. `next` and the `Link` header name the next page."""
    return await page(request, "", matching, after, n)


async def page(request: Request, kind: str, matching: str, after: str, n: int) -> Response:
    """Some of what is in force of a kind, or of all."""
    rows = await desk_of(request).entries(kind=kind, matching=matching, after=after, n=n)
    headers = next_page({"matching": matching, "after": rows.next, "n": str(n)})
    return revalidated(request, rows, headers=headers)


def next_page(query: Mapping[str, str | None]) -> dict[str, str]:
    """The header that names the next page; none where `after` is None.

    It is relative to this page, so that it is right behind a proxy, too. RFC 8288 section 3.1.
    """
    if query["after"] is None:
        return {}
    asked = urlencode({name: text for name, text in query.items() if text}, errors="surrogateescape")
    return {"link": f'<?{asked}>; rel="next"'}


async def put(request: Request, entry: NewEntry) -> Response:
    """Put an entry down, and say where it is found."""
    row = await desk_of(request).put(entry)
    return answered(row, 201, headers={"location": f"{request.scope.get('root_path', '')}{path_of(row)}"})


def path_of(row: EntryRow) -> str:
    """Where an entry is found.

    >>> path_of(examples.LISTING)
    '/v1/lists/allow/ip%3A198.51.100.0%2F24'
    """
    parts = [f"{row.kind}s", *filter(None, (row.rule, row.list)), row.target]
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/entries",
        handler=get_entries,
        scope=Scope.READ,
        summary="All that operators have put down",
        example=examples.ENTRIES,
        is_conditional=True,
        is_paged=True,
        tag="entries",
    ),
)
