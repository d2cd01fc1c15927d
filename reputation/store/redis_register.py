"""The register on Redis or Valkey (``lua/8_register.lua``): texts under ids, in one slot of a cluster.

What has changed is read in portions, and so is everything, where that is asked for, because the server does nothing
else meanwhile: 100,000 entries at once would keep every decision waiting for 200 ms. Whoever reads everything knows it
as of the version that he began at; what changes meanwhile is told to him as changed since.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from reputation.contracts import MAX_REGISTERED, Texts
from reputation.errors import StoreMisuse
from reputation.store import functions
from reputation.store.address import Address, StoreUrl
from reputation.store.channel import heard
from reputation.store.connection import Reply

_ALL, _MORE, _ANEW = range(3)


class RedisRegister:
    """Fulfils `reputation.contracts.RegisterStore` but for `members`, for a store that can call functions."""

    def __init__(self, url: StoreUrl, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        parts = ("entries", "expiry", "log", "version", "order")
        self._register_keys = [f"{prefix}:{{register}}:{part}" for part in parts]
        self._channel = f"{prefix}:{{register}}:changes"

    async def _ask(self, function: str, keys: Sequence[str], *arguments: functions.Word) -> Reply:
        """What a function says about some keys of one slot; no mail waits for it."""
        raise NotImplementedError

    async def _somewhere(self) -> Address:
        """A server that is likely to answer, not the same for everybody."""
        raise NotImplementedError

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        ends = "" if expires_us is None else expires_us
        version = await self._of_register(functions.ENTER, now_us, MAX_REGISTERED, id, entry_json, ends, line)
        if version < 0:
            raise StoreMisuse(f"the register has {MAX_REGISTERED} entries already: lift some")
        return int(version)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        return int(await self._of_register(functions.STRIKE, now_us, id, line))

    async def remark(self, id: str, line: str, *, now_us: int | None = None) -> int:
        return int(await self._of_register(functions.REMARK, now_us, id, line))

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        texts: dict[str, str] = {}
        while True:
            now, version, status, *words = await self._of_register(functions.ENTRIES, now_us, known_version)
            texts.update(_texts_of(words))
            if status != _MORE:
                break
            known_version = version
        if status == _ANEW:
            return Texts(now, version, True, await self._everything())
        return Texts(now, version, False, texts)

    async def _everything(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        last = 0
        while True:
            last, *words = await self._ask(functions.PAGE, self._register_keys, last)
            if not words:
                return texts
            texts.update(_texts_of(words))

    async def audit(self, n: int) -> Sequence[tuple[int, str]]:
        reply = await self._ask(functions.AUDIT, self._register_keys, n)
        return [(int(at), line.decode("utf-8", "replace")) for at, line in zip(reply[::2], reply[1::2], strict=True)]

    async def changes(self) -> AsyncGenerator[None, None]:
        async with aclosing(heard(self._channel, self._url, self._somewhere)) as news:
            async for _ in news:
                yield

    async def _of_register(self, function: str, now_us: int | None, *arguments: functions.Word) -> Reply:
        return await self._ask(
            function, self._register_keys, "" if now_us is None else now_us, self._channel, *arguments
        )


def _texts_of(words: Sequence[bytes]) -> dict[str, str]:
    texts = [word.decode("utf-8", "replace") for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=True))
