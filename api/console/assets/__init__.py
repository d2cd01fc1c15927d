"""The style sheet, the script and the sign: read once, sent small, and kept by browsers until they change.

The address of each has a hash of it, so it may be kept for ever; a new release has other addresses.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent
KINDS: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "sign.svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"
TAG_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file."""

    octets: bytes
    small: bytes
    tag: str


@lru_cache
def asset(name: str) -> Asset:
    """A file by its name."""
    octets = (FOLDER / name).read_bytes()
    return Asset(
        octets=octets,
        small=gzip.compress(octets, 9, mtime=0),
        tag=hashlib.sha256(octets).hexdigest()[:TAG_DIGITS],
    )


def asset_place(name: str) -> str:
    """Where a page finds it."""
    return f"/console/assets/{name}?{asset(name).tag}"


async def sent(request: Request) -> Response:
    """The file that is asked for. Takes no log-in: the page of the log-in needs it."""
    name = request.path_params["name"]
    if name not in KINDS:
        raise HTTPException(404)
    file = asset(name)
    is_small = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"cache-control": FOR_EVER, "vary": "accept-encoding"} | (
        {"content-encoding": "gzip"} if is_small else {}
    )
    return Response(file.small if is_small else file.octets, 200, headers, KINDS[name])
