"""One connection of a mail server: questions in, answers out, in order.

One task per connection, which waits for the next question; none is made for a question. Octets are read no faster
than they are answered: while `FULL_BYTES` wait, the kernel keeps the rest, and while the other side does not read its
answers no further question is answered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from smtp_frontend.policy_service.protocol import BrokenRequest, Decoder
from smtp_frontend.policy_service.requests import Request
from smtp_frontend.policy_service.visit import Line

READ_BYTES = 65_536
FULL_BYTES = 65_536
ANSWER_BYTES = 65_536
"""Of answers that the other side has not read, before it is asked no more."""

log = logging.getLogger("reputon.policy")

Answering = Callable[[Request, "Connection"], Awaitable[bytes]]

_packet = bytearray(READ_BYTES)
"""Where every packet of every connection is read to: it is copied from here in the same turn of the event loop."""


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection. `opened` and `closed` are called once each."""

    def __init__(
        self, answer: Answering, opened: Callable[["Connection"], bool], closed: Callable[["Connection", str], None]
    ) -> None:
        self._answer, self._opened, self._closed = answer, opened, closed
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._paused = False
        self._ended = False
        self.line = Line("")
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        """Whether a question is being answered."""
        self.stopping = False
        """Set when the process drains: the connection ends after the answer that is under way."""
        self.hurry = asyncio.Event()
        """Set when nobody is to be held back any more."""
        self.heard = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(ANSWER_BYTES)
        peer = transport.get_extra_info("peername")
        self.line = Line(str(peer[0]) if isinstance(peer, tuple) and peer else "")
        if self._opened(self):
            self.task = asyncio.get_running_loop().create_task(self._run())
        else:
            transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        return _packet

    def buffer_updated(self, nbytes: int) -> None:
        self._decoder.feed(memoryview(_packet)[:nbytes])
        if len(self._decoder) > FULL_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return True  # what was asked before is still answered

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._ended = True
        self.hurry.set()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._may_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        waiting, self._may_write = self._may_write, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def stop(self) -> None:
        """End the connection, after the answer that is under way when there is one."""
        self.stopping = True
        self.hurry.set()
        self._wake()

    def abort(self) -> None:
        """End the connection now."""
        self._ended = True
        if self.task is not None:
            self.task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _run(self) -> None:
        problem = ""
        try:
            await self._converse()
        except BrokenRequest as error:
            problem = str(error)
        except asyncio.CancelledError:
            pass  # the drain, when its time is up: nobody awaits this task for its result
        finally:
            if self._transport is not None:
                self._transport.close()
            self._closed(self, problem)

    async def _converse(self) -> None:
        """Answer questions until the other side goes, or is to go. Raises `BrokenRequest`."""
        loop = asyncio.get_running_loop()
        transport = self._transport
        assert transport is not None
        while not self.stopping:
            request = self._decoder.next()
            if request is None:
                if self._ended:
                    return
                self._read_on(transport)
                self._waiter = loop.create_future()
                await self._waiter
                self._waiter = None
                continue
            self.busy, self.heard = True, loop.time()
            answer = await self._answer(request, self)
            self.busy = False
            if transport.is_closing():
                return
            transport.write(answer)
            if self._may_write is not None:
                await self._may_write

    def _read_on(self, transport: asyncio.Transport) -> None:
        if self._paused:
            self._paused = False
            transport.resume_reading()
