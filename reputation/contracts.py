"""What the engine needs from outside: the Protocols that adapters fulfil.

One suite, ``tests/contracts``, runs against every implementation of a Protocol.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from reputation.charges import Answer, Charge, Receipt
from reputation.events import ClientAddress, Event
from reputation.facts import NO_NETWORK, LookedUp, Lookup, Network
from reputation.keys import Entity, Key, Metric
from reputation.windows import MICROSECONDS, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One window of one counter over time."""

    key: Key
    scope: str
    """The rule that the count belongs to; empty for the entity's own."""
    window: Window
    count: int
    """Units in the window now."""
    buckets: tuple[tuple[float, int], ...]
    """(start in seconds since the epoch, units), oldest first."""


class Sketch(NamedTuple):
    """About how many different members a key has had."""

    key: Key
    last_hour: int
    """In the running hour and the one before."""
    last_day: int


class Board(NamedTuple):
    """A leaderboard: who had the most of a metric in a window, in stretches of time."""

    dimension: str
    metric: str
    window: Window

    @property
    def stretch_us(self) -> int:
        """How long one stretch of the board is: fine enough to ask about the past."""
        return min(self.window.seconds, 3_600) * MICROSECONDS

    def spelled(self, prefix: str, at_us: int) -> str:
        """The key in the store of the stretch that a moment is in."""
        name = f"top:{self.dimension}:{self.metric}:{self.window.seconds}"
        return f"{prefix}:{{{name}}}:board:{at_us // self.stretch_us}"


MAX_REGISTERED = 100_000
"""Entries of the register; of which each process holds a copy in its memory."""


MAX_MEMBERS = 100_000
"""Of one set that is a list; it is read again and again."""


class Texts(NamedTuple):
    """What a process has to know to have the whole register: entries by their ids, as JSON."""

    now_us: int
    """The store's time, microseconds since the epoch."""
    version: int
    """What the register is at now; 0 for one that nothing was ever put into."""
    whole: bool
    """Whether this is everything, and not what has changed since the version that was asked about."""
    texts: Mapping[str, str]
    """id -> JSON; "" for what was struck."""


class RegisterStore(Protocol):
    """What operators have put down (`reputation.entries`), as texts that the store does not look into.

    Each change has a line in an audit, and makes a new version: the store's time of it in microseconds, or a little
    more. An entry leaves by itself, with a line of its own, when its time is over. Errors and `now_us` as in `Store`.
    """

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        """Put an entry down, in place of one with its id; the new version. `StoreMisuse` beyond `MAX_REGISTERED`."""
        ...

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        """Take an entry out; the new version, or 0 when there was none."""
        ...

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        """What has changed since a version; everything, where that cannot be told (0 is no version)."""
        ...

    async def remark(self, id: str, line: str, *, now_us: int | None = None) -> int:
        """Put a line into the audit about what is no entry; the new version. `entries` tells of `id` as of one that was
        struck, so every process hears of it."""
        ...

    async def audit(self, n: int) -> Sequence[tuple[int, str]]:
        """The latest lines, latest first, each with its time in microseconds."""
        ...

    def changes(self) -> AsyncGenerator[None, None]:
        """Yields soon after each change, several at once as one, for as long as it is iterated; raises nothing.

        Changes can be missed: it yields, too, whenever it begins to listen (anew), and ``entries`` knows.
        """
        ...

    async def members(self, name: str) -> frozenset[str]:
        """Who is in a set that others fill: its name is used as it is, and one that is not there is empty.

        `StoreMisuse` beyond `MAX_MEMBERS`, for what is no set, and where it may not be read.
        """
        ...


MAX_STREAMED = 100_000
"""Verdicts that the live stream remembers."""
STREAM_SECONDS = 86_400
"""How long after its last verdict."""
MAX_KEPT_TEXT = 65_536


class Streamed(NamedTuple):
    """A line of the live stream."""

    id: str
    """Its place: later ones are greater, as `(milliseconds, number)` joined by ``-``."""
    text: str


class StreamStore(Protocol):
    """Verdicts as they are given, for whoever wants to watch; the store does not look into them. Errors as in `Store`.

    At most `MAX_STREAMED` are remembered, the latest, and for `STREAM_SECONDS`.
    """

    async def publish(self, texts: Sequence[str]) -> None:
        """Put some texts at the end of the stream, in one round trip."""
        ...

    async def published(self, after: str, n: int) -> Sequence[Streamed]:
        """Up to `n` lines after one of the stream (``0`` for its beginning), oldest first. One that is not remembered
        any more stands where it stood."""
        ...

    async def last_published(self, n: int, *, before: str = "") -> Sequence[Streamed]:
        """Up to `n` lines, the latest first; those before one of the stream, where it is named."""
        ...

    async def unpublish(self, ids: Sequence[str]) -> int:
        """Take lines out; how many were there."""
        ...


class NoteStore(Protocol):
    """Small texts that every process can read, for a time. Errors as in `Store`; a name is hashed, so it may be any."""

    async def keep(self, name: str, text: str, lifetime_seconds: float) -> str | None:
        """Keep a text unless there is one by that name: then that one is given back, and stays; None for kept. Raises
        `StoreMisuse` for more than `MAX_KEPT_TEXT` octets."""
        ...

    async def kept(self, name: str) -> str | None:
        """The text of that name; None when there is none, or its time is over."""
        ...

    async def drop(self, name: str) -> None:
        """Forget the text of that name."""
        ...


class Store(RegisterStore, StreamStore, NoteStore, Protocol):
    """Shared counters. See `reputation.charges` for what a decision is, `reputation.windows` for how it counts.

    Every method raises `StoreUnavailable` or `StoreMisuse`, and nothing else of its library's, and none takes longer
    than the deadline that the store was made with; a shared one may let a crowd wait for its turn before that begins,
    for a bounded time. `now_us` is for tests and replays; without it the store's own clock rules.
    """

    @property
    def whole(self) -> bool:
        """Whether all servers of the store answer, as far as is known."""
        ...

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        """Read all meters, and charge all of them or none, in one round trip.

        A `token` names what is counted: a key that was charged for it lately is not charged again, and is not over
        for it.
        """
        ...

    async def refund(self, receipt: Receipt) -> None:
        """Give back what was charged, as far as it is still inside its windows."""
        ...

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        """Prolong leases by their window; how many were still held."""
        ...

    async def saw(self, key: Key, members: Sequence[str], *, now_us: int | None = None) -> None:
        """Put members into the estimate of how many different ones a key has; the key is none that is charged."""
        ...

    async def sketches(self, keys: Sequence[Key], *, now_us: int | None = None) -> Sequence[Sketch]:
        """How many different members some keys of one entity have had."""
        ...

    async def series(
        self, entity: Entity, metrics: Sequence[str] = tuple(Metric), *, now_us: int | None = None
    ) -> Sequence[Series]:
        """Everything that is counted about `entity` now; windows that hold nothing are left out."""
        ...

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        """The entities' own counts of some keys in one window, now."""
        ...

    async def offer(self, board: Board, counts: Mapping[str, int], *, now_us: int | None = None) -> None:
        """Put candidates (id -> count) on a leaderboard; each stands there with the most that it had."""
        ...

    async def board(self, board: Board, n: int, *, at_us: int | None = None) -> Sequence[tuple[str, int]]:
        """The (id, count) with the most, at a moment of the last two days; for now, candidates to be counted anew."""
        ...

    async def forget(self, entity: Entity) -> int:
        """Erase all that is kept about an entity, alone or joined with others, and take it off the leaderboards; how
        many keys held something of it. Looks at every key of the store, in pieces: no decision waits for it."""
        ...

    async def beat(self, process: str, lifetime_seconds: float) -> int:
        """Say that a process lives; how many do."""
        ...

    async def ping(self) -> str:
        """Name and version of the store, when it is ready to decide."""
        ...

    async def close(self) -> None:
        """Let go of connections, and of a server that was started for this store."""
        ...


class Lookups(Protocol):
    """Facts from outside the store. Nothing here raises: an outage is a fact ("temperror")."""

    @property
    def possible(self) -> frozenset[Lookup]:
        """What can be found out at all, as it is configured; the rest stays empty, and need not be asked for."""
        ...

    def network(self, client: ClientAddress) -> Network:
        """Whose network a client is in; from memory, at once."""
        ...

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        """What is `wanted` about an event, all asked at once and cached for as long as the answers say.

        Takes no longer than the deadline that the look-ups were made with. What cannot be asked about the event (SPF
        before there is a sender) stays empty.
        """
        ...

    async def close(self) -> None:
        """Let go of sockets and threads."""
        ...


class NoLookups:
    """Fulfils `Lookups` where none are configured."""

    possible: frozenset[Lookup] = frozenset()

    def network(self, client: ClientAddress) -> Network:  # noqa: ARG002 - the contract's
        return NO_NETWORK

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:  # noqa: ARG002 - the contract's
        return LookedUp(network=network)

    async def close(self) -> None:
        """Nothing to let go of."""
