"""Hearing that the register has changed: a subscription on a connection of its own, kept up whatever happens.

    async for _ in heard("rp:{register}:changes", url, place): ...      read what has changed

yields once for whatever has come in at a time, and once when it begins to listen, at first and after each interruption,
because meanwhile it was deaf. It ends only with whoever iterates: errors are followed by another try, where `place`
says, after pauses that are jittered, and grow until a subscription has lived for a while. A server that is silent is
asked whether it is still there.

Written on streams and hiredis: redis-py has pub/sub, too, but takes no TLS context that was made already.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import hiredis

from reputation.errors import StoreError, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.connection import packed
from reputation.store.node import CONNECT_SECONDS, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, error_of

SILENCE_SECONDS = 5.0
"""Without a message for so long, the server is asked for a sign of life."""
READ_BYTES = 65_536

log = logging.getLogger("reputon.store")


async def heard(name: str, url: StoreUrl, place: Callable[[], Awaitable[Address]]) -> AsyncGenerator[None, None]:
    """Yield for each message of channel `name`, and whenever it begins to listen; any server of a cluster will do."""
    loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
    while True:
        began = 0.0
        try:
            async with aclosing(_listening(name, url, await place())) as messages:
                async for _ in messages:
                    began = began or loop.time()
                    yield
        except StoreError as error:
            log.debug("deaf to %s: %s", name, error)
        if began and loop.time() - began > LONGEST_PAUSE_SECONDS:
            pause = FIRST_PAUSE_SECONDS  # it was a good one: the next is tried soon
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


async def _listening(name: str, url: StoreUrl, address: Address) -> AsyncGenerator[None, None]:
    """One subscription, until it fails: raises `StoreError`."""
    replies = hiredis.Reader()
    reader, writer = await _connected(url, address)
    try:
        writer.write(b"".join(_words(name, url)))
        patience, asked = CONNECT_SECONDS, True
        while True:
            try:
                async with asyncio.timeout(patience):
                    data = await reader.read(READ_BYTES)
            except TimeoutError:
                if asked:
                    raise StoreUnavailable(f"{address}: no answer for {patience:g} s") from None
                writer.write(packed("PING"))
                patience, asked = CONNECT_SECONDS, True
                continue
            if not data:
                raise StoreUnavailable(f"{address}: the server has hung up")
            patience, asked = SILENCE_SECONDS, False
            if _is_news(replies, data, address):
                yield
    except (OSError, hiredis.ProtocolError) as error:
        raise StoreUnavailable(f"{address}: {error}") from error
    finally:
        writer.transport.abort()  # nothing to say goodbye for, and nothing to wait for


def _words(name: str, url: StoreUrl) -> list[bytes]:
    user = [url.username] if url.username else []
    login = [packed("AUTH", *user, url.password)] if url.username or url.password else []
    return [*login, packed("SUBSCRIBE", name)]


def _is_news(replies: hiredis.Reader, data: bytes, address: Address) -> bool:
    """Whether a message is in what was read, or the word that the subscription holds; raises `StoreError`."""
    replies.feed(data)
    news = False
    while (reply := replies.gets()) is not False:
        if isinstance(reply, hiredis.ReplyError):
            raise error_of(f"{address}: SUBSCRIBE", str(reply))
        news = news or (isinstance(reply, list) and reply[0] in (b"message", b"subscribe"))
    return news


async def _connected(url: StoreUrl, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    hostname = address.host if url.tls and url.tls.check_hostname else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if address.port:
                return await asyncio.open_connection(address.host, address.port, ssl=url.tls, server_hostname=hostname)
            return await asyncio.open_unix_connection(address.host)
    except (OSError, UnicodeError) as error:  # the latter for a host that can be no name
        raise StoreUnavailable(f"{address}: cannot connect: {str(error) or 'no answer'}") from error
