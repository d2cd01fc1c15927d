"""What the benchmarks put on servers, and what the servers say that it cost.

The population is that of a busy mail site: a few thousand clients, senders and recipients, of which some are seen all
the time and most now and then (the chance of the n-th is as 1/n). Streams are the same in every run (`random.Random`
with a seed).
"""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import accumulate
from random import Random
from types import TracebackType
from typing import Self

import hiredis

from reputation.bookkeeping import TRACKING
from reputation.charges import Charge, Plan
from reputation.events import Rcpt, Session
from reputation.keys import Dimension, Entity, Key, Metric
from reputation.store.connection import Reply, packed
from reputation.store.node import LOAD_FUNCTIONS
from tests.servers import RedisServer

ENTITIES = 6
"""Entities of a decision, each with three windows: what RCPT counts when nobody has logged in."""
TRACKED = Plan(TRACKING)

_KEYS = (
    (Dimension.IP, Metric.RECIPIENTS),
    (Dimension.PREFIX, Metric.RECIPIENTS),
    (Dimension.SENDER, Metric.RECIPIENTS),
    (Dimension.SENDER_DOMAIN, Metric.RECIPIENTS),
    (Dimension.RECIPIENT, Metric.MESSAGES),
    (Dimension.RECIPIENT_DOMAIN, Metric.MESSAGES),
)
assert len(_KEYS) == ENTITIES


def key_of(number: int) -> Key:
    """The key of the n-th entity; every sixth is an address of a client, and so on.

    >>> key_of(8).spelled("rp"), key_of(9).spelled("rp")
    ('rp:{sender:user0000001@example001.com}:recipients', 'rp:{sender_domain:example0000001.com}:recipients')
    """
    of, kind = divmod(number, ENTITIES)
    dimension, metric = _KEYS[kind]
    match dimension:
        case Dimension.IP:
            id = f"10.{of >> 16 & 255}.{of >> 8 & 255}.{of & 255}"
        case Dimension.PREFIX:
            id = f"{10 + (of >> 16 & 255)}.{of >> 8 & 255}.{of & 255}.0/24"
        case Dimension.SENDER | Dimension.RECIPIENT:
            id = f"user{of:07d}@example{of % 997:03d}.com"
        case _:
            id = f"example{of:07d}.com"
    return Key(Entity(dimension, id), metric)


def charges_of(numbers: Sequence[int], plan: Plan, cost: int = 1) -> tuple[Charge, ...]:
    """A decision about some entities."""
    return tuple(Charge(key_of(number), plan, cost) for number in numbers)


def events(count: int, *, seed: int = 3, population: int = 5_000) -> list[Rcpt]:
    """Recipients of mail, as `Engine.judge` is told of them; each is about six entities."""
    random = Random(seed)
    weights = list(accumulate(1 / rank for rank in range(1, population + 1)))

    def some() -> list[int]:
        return random.choices(range(population), cum_weights=weights, k=count)

    def address(number: int, top: str) -> str:
        return f"user{number:04d}@dom{number % 500:03d}.example.{top}"

    clients = [
        ip_address(f"10.{random.randrange(200)}.{random.randrange(200)}.{random.randrange(250)}")
        for _ in range(population)
    ]
    return [
        Rcpt(
            session=Session(id=str(position), client=clients[client], helo=f"mail{client:04d}.example.com"),
            sender=address(sender, "com"),
            recipient=address(recipient, "net"),
        )
        for position, (client, sender, recipient) in enumerate(zip(some(), some(), some(), strict=True))
    ]


class Pipe:
    """One plain connection over the unix socket of a server, for many commands at a time. Loads the functions."""

    AT_ONCE = 64
    """Commands in one write: what a busy client sends in one turn of its loop."""

    def __init__(self, server: RedisServer) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(server.socket))
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self.exchange([LOAD_FUNCTIONS], errors_too=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()

    def command(self, *words: str | bytes | int) -> Reply:
        """Carry out one command."""
        return self.exchange([packed(*words)])[0]

    def exchange(self, commands: Sequence[bytes], *, errors_too: bool = False) -> list[Reply]:
        """Carry out some commands; raises the first error reply."""
        replies: list[Reply] = []
        for start in range(0, len(commands), self.AT_ONCE):
            some = commands[start : start + self.AT_ONCE]
            self._socket.sendall(b"".join(some))
            replies += self._read(len(some))
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError) and not errors_too:
                raise reply
        return replies

    def _read(self, count: int) -> Iterator[Reply]:
        while count:
            reply = self._reader.gets()
            if reply is Ellipsis:
                self._reader.feed(self._socket.recv(1 << 20))
            else:
                count -= 1
                yield reply


@dataclass(frozen=True, slots=True)
class Cost:
    """What a server has spent since it started."""

    function_calls: int
    function_us: float
    """Inside functions, by the server's own clock (``INFO commandstats``)."""
    script_us: float
    cpu_us: float
    """CPU time of the whole server process, sockets and all (``INFO cpu``)."""
    reads: int
    """How often it read from a socket of a client."""

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) - getattr(other, name) for name in self.__slots__))

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


NOTHING = Cost(0, 0.0, 0.0, 0.0, 0)


class Meterman:
    """Reads what some servers have spent, on connections that are kept."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self._clients = [server.client() for server in servers]
        self.read()  # connects

    def read(self) -> Cost:
        """The sum over the servers."""
        return sum((self._read(position) for position in range(len(self._clients))), NOTHING)

    def _read(self, position: int) -> Cost:
        info = self._clients[position].info("all")
        functions, cpu = info.get("cmdstat_fcall", {"calls": 0, "usec": 0}), ("used_cpu_user", "used_cpu_sys")
        scripts = sum(info.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("eval", "evalsha"))
        return Cost(
            function_calls=functions["calls"],
            function_us=functions["usec"],
            script_us=scripts,
            cpu_us=sum(info[name] for name in cpu) * 1e6,
            reads=info["total_reads_processed"],
        )

    def close(self) -> None:
        for client in self._clients:
            client.close()
