"""Every error that reputon raises on purpose.

::

    ReputonError
    ├── ConfigError          a setting, a rule or an address that cannot be right
    │   ├── LimitError       a limit such as "100/1h" that cannot be read or met
    │   ├── EntityError      text such as "sender:alice@example.com" that names no entity
    │   └── NothingThere     what was named is not there
    ├── UnknownFact          a policy in Python asked for what was not found out for it
    ├── ApiError             the API of another process did not do what it was asked
    │   ├── Unreachable      nobody answered, or nobody who speaks like our API
    │   └── Refused          it wants another token, or no more requests for now
    └── StoreError           the counter store did not answer as it must
        ├── StoreUnavailable it is away, too slow, or still loading: try again later
        └── StoreMisuse      it answered, and refused: our mistake or the operator's

Adapters translate the errors of their library into these at their own door, with ``raise ... from``.
Nothing here ever reaches an SMTP client: the front end answers with a fixed text.
"""


class ReputonError(Exception):
    """The root: whoever catches it catches all that reputon raises on purpose."""


class ConfigError(ReputonError):
    """A setting that cannot be right. The text says which one and what to write instead."""


class LimitError(ConfigError):
    """A limit or a window that cannot be read, or that no count could ever meet."""


class EntityError(ConfigError):
    """Text that does not name an entity."""


class NothingThere(ConfigError):
    """What was named is not there: no such entry, rule or token."""


class ApiError(ReputonError):
    """The API of another process did not do what it was asked."""


class Unreachable(ApiError):
    """Nobody answered, or nobody who speaks like our API."""


class Refused(ApiError):
    """The API wants another token, or no more requests for now."""


class UnknownFact(ReputonError, LookupError):
    """A policy in Python asked for a fact that is not known at its stage, or that its `needs` does not name."""


class StoreError(ReputonError):
    """The counter store did not answer as it must."""


class StoreUnavailable(StoreError):
    """The store is away, too slow, or still loading. The decision falls back as its rule says."""


class StoreMisuse(StoreError):
    """The store answered and refused (no permission, out of memory), or is of another kind than its URL says."""
