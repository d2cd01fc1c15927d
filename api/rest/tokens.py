"""Tokens of the API: who has one, making one, taking one back."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered, revalidated
from api.rest import examples
from api.rest.parameters import Reason, TokenInPath, TokenWanted
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

WANTED = Annotated[
    TokenWanted,
    Body(
        openapi_examples={
            "the abuse desk, for 90 days": {
                "value": {
                    "name": "carol",
                    "scopes": ["write"],
                    "reason": "abuse desk",
                    "expires_in_seconds": 7_776_000,
                }
            },
            "a mail server": {"value": {"name": "mx1.example.net", "scopes": ["check"], "reason": "asks for verdicts"}},
        }
    ),
]


async def get_tokens(request: Request) -> Response:
    """All tokens, without their secrets."""
    return revalidated(request, await desk_of(request).tokens())


async def make_token(request: Request, new: WANTED) -> Response:
    """Make a token. Its text is shown this once."""
    return answered(await desk_of(request).make_token(new.token()), 201)


async def revoke_token(request: Request, token_id: TokenInPath, reason: Reason) -> Response:
    """Take a token back, by its id or its name. It is refused everywhere within a second."""
    return answered(await desk_of(request).revoke_token(token_id, reason=reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/tokens",
        handler=get_tokens,
        scope=Scope.ADMIN,
        summary="All tokens",
        example=examples.TOKENS,
        is_conditional=True,
        tag="tokens",
    ),
    Resource(
        method="POST",
        path="/v1/tokens",
        handler=make_token,
        scope=Scope.ADMIN,
        summary="Make a token",
        example=examples.MADE_TOKEN,
        status=201,
        errors=(413,),
        tag="tokens",
    ),
    Resource(
        method="DELETE",
        path="/v1/tokens/{token_id}",
        handler=revoke_token,
        scope=Scope.ADMIN,
        summary="Take a token back",
        example=examples.TOKEN,
        errors=(404,),
        tag="tokens",
    ),
)
