"""Whether the store answers: each failure is counted, each change of state logged once."""

import logging

from reputation.clock import Clock
from reputation.errors import StoreError
from reputation.metrics import Metrics

log = logging.getLogger("reputon.engine")


class StoreWatch:
    """Whether the store answers: counts each failure, logs each change of state once.

    While one server of a cluster is away the store is down, however often the others answer.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._failed_at: float | None = None
        self._failures = 0
        metrics.store_up.set(1)

    @property
    def down(self) -> bool:
        """Whether a call has failed since the store was whole."""
        return self._failed_at is not None

    def failed(self, call: str, error: StoreError) -> None:
        self._metrics.store_failures.labels(call, type(error).__name__).inc()
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = self._clock.monotonic()
            self._metrics.store_up.set(0)
            log.warning("store down: %s; rules act as their on_store_failure says", error)

    def answered(self) -> None:
        assert self._failed_at is not None
        seconds = self._clock.monotonic() - self._failed_at
        log.warning("store back after %.1f s, %d calls had failed", seconds, self._failures)
        self._failed_at, self._failures = None, 0
        self._metrics.store_up.set(1)
