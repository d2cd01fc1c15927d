"""The register in this process' memory: the same versions, log and answers as ``lua/8_register.lua``."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from reputation.clock import SystemClock
from reputation.contracts import MAX_REGISTERED, Texts
from reputation.errors import StoreMisuse
from reputation.windows import MICROSECONDS

LOG_LENGTH = 10_000


class MemoryRegister:
    """Fulfils `reputation.contracts.RegisterStore`."""

    def __init__(self) -> None:
        self._entries: dict[str, str] = {}
        self._ends: dict[str, int] = {}
        self._log: deque[tuple[int, int, str, str]] = deque(maxlen=LOG_LENGTH)
        """Version, time, id and line of each change."""
        self._version = 0
        self._listeners: set[asyncio.Event] = set()
        self.sets: dict[str, frozenset[str]] = {}
        """What `members` says; others fill it."""

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        now = self._swept(now_us)
        if id not in self._entries and len(self._entries) >= MAX_REGISTERED:
            raise StoreMisuse(f"the register has {MAX_REGISTERED} entries already: lift some")
        self._entries[id] = entry_json
        self._ends.pop(id, None)
        if expires_us is not None:
            self._ends[id] = expires_us
        return self._changed(now, id, line)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        if self._entries.pop(id, None) is None:
            return 0
        self._ends.pop(id, None)
        return self._changed(_now_us() if now_us is None else now_us, id, line)

    async def remark(self, id: str, line: str, *, now_us: int | None = None) -> int:
        return self._changed(_now_us() if now_us is None else now_us, id, line)

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        now = self._swept(now_us)
        if known_version == self._version or any(version == known_version for version, *_ in self._log):
            since = [id for version, _, id, _ in self._log if version > known_version]
            return Texts(now, self._version, False, {id: self._entries.get(id, "") for id in since})
        return Texts(now, self._version, True, dict(self._entries))

    async def audit(self, n: int) -> Sequence[tuple[int, str]]:
        return [(at_us, line) for _, at_us, _, line in reversed(self._log)][:n]

    async def changes(self) -> AsyncGenerator[None, None]:
        news = asyncio.Event()
        self._listeners.add(news)
        try:
            yield
            while True:
                await news.wait()
                news.clear()
                yield
        finally:
            self._listeners.discard(news)

    async def members(self, name: str) -> frozenset[str]:
        return self.sets.get(name, frozenset())

    def _swept(self, now_us: int | None) -> int:
        """Take out what has expired; what time it is."""
        now = _now_us() if now_us is None else now_us
        for id in [id for id, ends in self._ends.items() if ends <= now]:
            entry = self._entries.pop(id)
            del self._ends[id]
            told = "" if id.startswith("token|") else entry  # the audit has no digest
            self._changed(now, id, json.dumps({"what": "expired", "id": id, "entry": told}))
        return now

    def _changed(self, now: int, id: str, line: str) -> int:
        self._version = max(self._version + 1, now)
        self._log.append((self._version, now, id, line))
        for news in self._listeners:
            news.set()
        return self._version


def _now_us() -> int:
    return int(SystemClock().now() * MICROSECONDS)
