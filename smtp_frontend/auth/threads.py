"""Threads for work that would hold up all sessions: hashing, and libraries that wait.

Promises: never more than `count` jobs at once, never more than `MAX_WAITING` callers; one more is told so at once
(`VerifierUnavailable`), because by his turn nobody would wait for the answer any more. Who is cancelled before his turn
costs nothing.

Bugs: a job that has begun goes on after its caller has gone, and keeps its thread until then.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from smtp_frontend.auth.contract import VerifierUnavailable

MAX_WAITING = 200

Result = TypeVar("Result")


class Threads:
    """A number of threads, and those who wait for one."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="log-in")
        self._count = count
        self._callers = 0

    async def run(self, job: Callable[[], Result]) -> Result:
        """What `job` returns, or raises."""
        if self._callers >= self._count + MAX_WAITING:
            raise VerifierUnavailable("too many log-ins at once")
        self._callers += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, job)
        finally:
            self._callers -= 1

    def close(self) -> None:
        """Take no more jobs. Those under way end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)
