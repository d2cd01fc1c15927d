"""Connections, counted from the moment that they are accepted: before TLS, and before a word is said.

    listener = Listener(listening, Places(10_000), protocol, tls=context)
    listener.close()

There is room for so many at once (`Places`), and for so many of one network of clients; one more is closed as soon as
it is there. A handshake of TLS takes `HANDSHAKE_SECONDS` at most. So whoever opens connections and says nothing holds
his own places, and not those of all.

A loop's own server makes the protocol known when a handshake is over, and does not say who it is that shakes hands; so
this accepts by itself.

Bugs: clients behind one address that is not loopback share their places.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

from api.gate import network_of

MAX_OF_NETWORK = 500
"""Connections of one network of clients (an IPv4 address, an IPv6 /64): a mail server asks over some hundred at the
most, and who has twenty networks is no stranger's toy. Loopback is not counted so: there are a proxy's clients, and
programs of this machine."""
HANDSHAKE_SECONDS = 10.0
AT_ONCE = 100
"""Clients that are accepted before others have their turn."""
PAUSE_SECONDS = 1.0
"""After a failure to accept."""

Protocol = Callable[[Callable[[], None]], asyncio.Protocol]
"""Makes the protocol of a connection, which calls its argument when the connection is over."""

log = logging.getLogger("reputon.api")


class Places:
    """Who is connected, in numbers."""

    def __init__(self, most: int, most_of_network: int | None = MAX_OF_NETWORK) -> None:
        """`most_of_network`: None where all clients come by a proxy of ours."""
        self._most = most
        self._most_of_network = most_of_network
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are connected."""
        return self._taken.total()

    def take(self, client: str) -> str | None:
        """The name of a place for a client, to be given back; None when there is no room.

        >>> places = Places(3, most_of_network=1)
        >>> [places.take(client) for client in ("192.0.2.7", "192.0.2.7", "::1", "::1", "192.0.2.8")]
        ['192.0.2.7', None, '', '', None]
        """
        name = "" if self._most_of_network is None or _is_near(client) else network_of(client)
        is_full = bool(name) and self._taken[name] >= (self._most_of_network or 0)
        if is_full or self.taken >= self._most:
            return None
        self._taken[name] += 1
        return name

    def give_back(self, name: str) -> None:
        """A connection is over."""
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]


def _is_near(client: str) -> bool:
    try:
        return ip_address(client).is_loopback
    except ValueError:  # a unix-domain socket has no address
        return True


class Listener:
    """Accepts connections of a socket until it is closed; a server of uvicorn's."""

    def __init__(
        self, listening: socket.socket, places: Places, protocol: Protocol, tls: ssl.SSLContext | None = None
    ) -> None:
        self._listening = listening
        self._places = places
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._shaking_hands: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._begin()

    def close(self) -> None:
        """Listen no more; who is connected stays, and who only shakes hands does not."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()
        for task in self._shaking_hands:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait for those who shook hands."""
        await asyncio.gather(*self._shaking_hands, return_exceptions=True)

    def _begin(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors, no memory: it would be so again at once
                log.warning("cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_SECONDS, self._begin)
                return
            accepted.setblocking(False)
            place = self._places.take(address[0] if isinstance(address, tuple) else "")
            if place is None:
                accepted.close()
                continue
            task = self._loop.create_task(self._welcome(accepted, place))
            self._shaking_hands.add(task)
            task.add_done_callback(self._shaking_hands.discard)

    async def _welcome(self, accepted: socket.socket, place: str) -> None:
        """Make a connection of a client; whoever fails at TLS is nobody's news."""
        is_taken = True

        def over() -> None:
            nonlocal is_taken
            if is_taken:
                is_taken = False
                self._places.give_back(place)

        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: self._protocol(over),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
            )
        except OSError:  # ssl.SSLError is one
            over()
        except BaseException:  # cancellation, too: the place must not stay taken
            over()
            raise
        else:
            if transport.is_closing():  # by a client who has gone while he shook hands: the protocol has never seen him
                over()
