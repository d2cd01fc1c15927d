"""The REST API: what the desk can do, as resources. `router` has all of them; `document_of` describes them.

Each module has the resources of one kind, and no logic: a handler asks the desk one thing, and answers its document.
What the desk raises becomes a problem in the application's handlers.
"""

from collections import Counter

from api.rest import bans, entities, entries, lists, looking, overrides, rules, stream, suspects, tokens
from api.rest.documenting import document_of
from api.rest.resource import Resource
from api.rest.routing import GuardedRoute, router_of

RESOURCES: tuple[Resource, ...] = (
    *looking.RESOURCES,
    *entities.RESOURCES,
    *entries.RESOURCES,
    *bans.RESOURCES,
    *overrides.RESOURCES,
    *lists.RESOURCES,
    *rules.RESOURCES,
    *suspects.RESOURCES,
    *stream.RESOURCES,
    *tokens.RESOURCES,
)
assert max(Counter((each.method, each.path) for each in RESOURCES).values()) == 1
assert max(Counter(each.operation_id for each in RESOURCES).values()) == 1

router = router_of(RESOURCES)
assert all(isinstance(each, GuardedRoute) and each.scope for each in router.routes), "a route without a scope"

__all__ = ("RESOURCES", "GuardedRoute", "document_of", "router", "router_of")
