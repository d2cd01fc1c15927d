"""Arrivals at random moments (a Poisson process): no benchmark, but what `benchmarks.judge` listens to.

    python -m benchmarks.arrivals START PER_SECOND COUNT

writes a byte to its standard output at each moment that `due` names. As a process of its own it does not wait for
whoever is asked, and the event loop of the other one wakes up by a socket, as in a mail server. An event loop's own
timers are a millisecond too coarse for this, and a loop that spins instead takes the core that the servers need.
"""

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from random import Random

PR_SET_TIMERSLACK = 29


def due(start: float, per_second: float, count: int) -> Iterator[float]:
    """The moments, by `time.perf_counter`, which is one clock for all processes of a machine."""
    random, moment = Random(7), start
    for _ in range(count):
        moment += random.expovariate(per_second)
        yield moment


def main() -> None:
    """Tell them."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)  # wakes up to the microsecond, not to fifty
    for moment in due(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])):
        if (pause := moment - time.perf_counter()) > 0:
            time.sleep(pause)
        os.write(sys.stdout.fileno(), b".")


if __name__ == "__main__":
    main()
