"""Who in this process wants to hear of remarks, which operators have put into the audit (`reputation.registrar`)."""

from collections.abc import Callable, Iterable

RELOAD = "reload"
"""Every process reads its rules anew."""
FORGET, FORGOTTEN = "forget", "forgotten"
"""Every process drops what it remembers of entities: one is to be erased, or was."""

REMARKS = (RELOAD, FORGET, FORGOTTEN)


class Listeners:
    """Who hears what."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def add(self, what: str, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `what` is remarked."""
        self._listeners.setdefault(what, []).append(listener)

    def tell(self, remarked: Iterable[str]) -> None:
        """Tell them what was remarked."""
        for what in remarked:
            for listener in self._listeners.get(what, ()):
                listener()
