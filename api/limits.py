"""So many a second for each name, with room for a few seconds' worth at once. Pure: time is an argument.

    limits = Limits(max_names=10_000)
    wait = limits.wait_seconds("3f9c2a17", now, per_second=100, burst=300)      0.0: let it through

For each name one number is kept: when what was let through will have been worked off (the virtual scheduling of the
generic cell rate algorithm, ITU-T I.371). Each one that is let through moves it on by 1/rate; one that would move it
further ahead than `burst` of them is not let through, and costs nothing.

    per_second = 2, burst = 4      let through at 0.0, 0.0, 0.0, 0.0; refused at 0.1: wait 0.4; let through at 0.5

Bugs: of more names than `max_names` those that were let through the longest ago are forgotten, and begin anew.
"""


class Limits:
    """What many names may do, each for itself."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._due: dict[str, float] = {}
        """The latest last."""

    def __len__(self) -> int:
        return len(self._due)

    def wait_seconds(self, name: str, now: float, *, per_second: float, burst: float) -> float:
        """How long `name` has to wait; 0 when it need not, and then one more of it counts.

        >>> limits = Limits(2)
        >>> [limits.wait_seconds("a", at, per_second=2, burst=2) for at in (0, 0, 0, 0.25, 0.5)]
        [0.0, 0.0, 0.5, 0.25, 0.0]
        """
        step = 1 / per_second
        due = max(self._due.pop(name, now), now)
        wait = due - now - (max(burst, 1) - 1) * step
        self._due[name] = due + step if wait <= 0 else due
        if len(self._due) > self._max_names:
            del self._due[next(iter(self._due))]
        return max(wait, 0.0)
