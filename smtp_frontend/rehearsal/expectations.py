"""What did not come: waiting for something, and the error when it stays away or is something else."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 10.0
"""What has not come by then does not come."""
POLL_SECONDS = 0.005


class Surprise(AssertionError):
    """Something else came than what was expected. The text says what."""


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the loop run until `condition` holds. Raises `Surprise` when it does not."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - what is waited for says nothing when it comes
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise Surprise(f"not within {PATIENCE_SECONDS:g} s: {what}") from None
