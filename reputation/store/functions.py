"""The door to ``functions.lua``: its source, its names, and how charges are written for it and answers read."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files

from reputation.charges import Answer, Charge, Charging, Meter, Over
from reputation.contracts import Series
from reputation.keys import Key
from reputation.windows import MICROSECONDS, Reading, Window

CACHED_PLANS = 4_096

_OVER = {Over.DENIES: "d", Over.SKIPS: "s", Over.NOTES: "n"}
_CHARGING = {Charging.ACCEPTED: "a", Charging.ALWAYS: "+", Charging.NEVER: "-"}
assert _OVER.keys() == set(Over) and _CHARGING.keys() == set(Charging)

_TEMPLATE = (files("reputation.store") / "functions.lua").read_text(encoding="utf-8")
VERSION = hashlib.sha256(_TEMPLATE.encode()).hexdigest()[:12]
SOURCE = _TEMPLATE.replace("@VERSION@", VERSION)
DECIDE = f"reputon_{VERSION}_decide"
REFUND = f"reputon_{VERSION}_refund"
SERIES = f"reputon_{VERSION}_series"


@lru_cache(maxsize=CACHED_PLANS)
def plan_of(meters: tuple[Meter, ...]) -> str:
    """The text that tells the store which meters to keep on a key.

    >>> from reputation.windows import Limit
    >>> plan_of((Meter.limited("a-rule", [Limit.parse("30/1m")], Charging.ACCEPTED, Over.DENIES),))
    'a-rule;d;a;60:10:6000000:30'
    """
    return "|".join(
        f"{meter.scope};{_OVER[meter.over]};{_CHARGING[meter.charging]};{','.join(_rings_of(meter))}"
        for meter in meters
    )


def _rings_of(meter: Meter) -> Iterator[str]:
    for position, window in enumerate(meter.windows):
        limit = meter.limits[position].count if meter.limits else 0
        yield f"{window.seconds}:{window.buckets}:{window.bucket_us}:{limit}"


def call_of(charges: Sequence[Charge], at: int | str, prefix: str) -> list[str | int]:
    """Number of keys, keys and arguments of DECIDE and REFUND."""
    call: list[str | int] = [len(charges), *(charge.key.spelled(prefix) for charge in charges), at]
    for charge in charges:
        call += (plan_of(charge.meters), charge.cost)
    return call


def answer_of(charges: Sequence[Charge], reply: Sequence[int]) -> Answer:
    """Read the reply of DECIDE."""
    numbers = iter(reply[2:])
    readings = tuple(
        tuple(
            tuple(
                Reading(
                    window=window,
                    count=next(numbers),
                    limit=meter.limits[position] if meter.limits else None,
                    retry_after_seconds=next(numbers) / MICROSECONDS,
                )
                for position, window in enumerate(meter.windows)
            )
            for meter in charge.meters
        )
        for charge in charges
    )
    return Answer(allowed=bool(reply[0]), at_us=reply[1], readings=readings)


def series_of(key: Key, rings: Sequence[Sequence[bytes | int]]) -> Iterator[Series]:
    """Read what SERIES says of one key."""
    for name, last, *cells in rings:
        assert isinstance(name, bytes)
        scope, seconds, buckets = name.decode().rsplit(":", 2)
        window = Window(int(seconds))
        width_us = -(-window.seconds * MICROSECONDS // int(buckets))
        first = int(last) - len(cells) + 1
        counts = [int(cell) for cell in cells]
        yield Series(
            key=key,
            scope=scope,
            window=window,
            count=sum(counts),
            buckets=tuple(
                ((first + position) * width_us / MICROSECONDS, count) for position, count in enumerate(counts)
            ),
        )
