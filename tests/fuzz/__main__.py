"""`python -m tests.fuzz --seconds N`: the fuzz test of the front end, for as long as you like.

Ends with status 1 and the smallest input that it found when the invariant of `sessions` does not hold.
"""

import argparse
import secrets
import sys
import time

from hypothesis import given, seed, settings

from tests.fuzz.sessions import House, cuts, octets_of_a_session

EXAMPLES_PER_ROUND = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the first round")
    arguments = parser.parse_args()
    ends_at = time.monotonic() + arguments.seconds
    rounds = 0
    with House() as house:

        def hold(octets: bytes, at: list[int]) -> None:
            house.hold(octets, at)

        while rounds == 0 or time.monotonic() < ends_at:
            print(f"round {rounds + 1}, seed {arguments.seed + rounds}", flush=True)
            once = settings(max_examples=EXAMPLES_PER_ROUND, deadline=None, database=None, print_blob=True)
            seed(arguments.seed + rounds)(once(given(octets=octets_of_a_session, at=cuts)(hold)))()
            rounds += 1
    print(f"{rounds * EXAMPLES_PER_ROUND} sessions, each played twice: the invariant held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
