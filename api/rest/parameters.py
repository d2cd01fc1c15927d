"""What requests say, with bounds and examples: parameters of paths and queries, and bodies.

A body is read strictly: a number is no text, and a member that is not known is a mistake, because one with a slip in
its name (`expires_in_secs`) would be a ban for ever. How words are spelled is documented here, and checked by the desk,
which says what to write instead.
"""

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from reputation.desk.contract import MAX_AUDIT, MAX_ENTRIES, MAX_SUSPECTS, MAX_TOP
from reputation.desk.documents import NewEntry, NewToken
from reputation.entries import MAX_OVERRIDE_LIMITS, MAX_REASON_LENGTH
from reputation.events import Stage
from reputation.keys import Dimension, Metric
from reputation.verdict import REFUSING, Action

MAX_VALUE = 4_096
"""Characters of a value, which fit into a URL of 64 kB when they are percent-encoded. What is longer than an address is
counted by its hash."""
MAX_NAME = 64
MAX_MATCHING = 320
MAX_ID = 1_000
MAX_FILTERS = 16
LONGEST_SECONDS = 100 * 366 * 86_400.0
"""A hundred years."""
LATEST = 2.0**40

ANY_OF = "|".join(Dimension)
DIMENSIONS = rf"(?:{ANY_OF})(?:\+(?:{ANY_OF}))*"
MAX_DIMENSIONS = 200
TARGET = {"pattern": f"^{DIMENSIONS}:"}
RULE = {"pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}
LIST = {"pattern": "^[a-z0-9-]{1,40}$"}
LIMIT = {"pattern": r"^\s*[0-9]{1,18}\s*/\s*[0-9]{0,9}\s*(?:s|min|m|h|d|w)\s*$"}
NAME = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"}

# Paths

DimensionInPath = Annotated[
    str,
    Path(
        json_schema_extra={"pattern": f"^{DIMENSIONS}$"},
        max_length=MAX_DIMENSIONS,
        description=f"One of {', '.join(Dimension)}; or several, joined by `+`.",
        examples=["sender"],
    ),
]
ValueInPath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_VALUE,
        description="The value, percent-encoded, with `/` as `%2F`.",
        examples=["alice@example.com"],
    ),
]


def _target(example: str) -> Any:
    return Path(
        min_length=1,
        max_length=MAX_VALUE,
        json_schema_extra=TARGET,
        description="`DIMENSION:VALUE`, percent-encoded, with `/` as `%2F`; a network is `ip:192.0.2.0%2F24`.",
        examples=[example],
    )


TargetInPath = Annotated[str, _target("ip:192.0.2.7")]
OverriddenInPath = Annotated[str, _target("sender:newsletter@example.org")]
RuleInPath = Annotated[
    str, Path(min_length=1, max_length=MAX_NAME, description="The rule's name.", examples=["sender-rate"])
]
ListInPath = Annotated[str, Path(min_length=1, max_length=MAX_NAME, description="The list's name.", examples=["allow"])]
TokenInPath = Annotated[
    str, Path(min_length=1, max_length=MAX_NAME, description="The token's id, or its name.", examples=["3f9c2a17"])
]

# Queries

Reason = Annotated[
    str,
    Query(
        min_length=1,
        max_length=MAX_REASON_LENGTH,
        description="Why; one line, for the audit.",
        examples=["asked for by the owner"],
    ),
]
TopDimension = Annotated[Dimension, Query(description="Whose counts.", examples=["sender"])]
TopMetric = Annotated[Metric, Query(description="Which counts; not all are kept of all.", examples=["messages"])]
TopWindow = Annotated[Literal["5m", "1h", "1d"], Query(description="Counted over how long.", examples=["1h"])]
TopN = Annotated[int, Query(ge=1, le=MAX_TOP, description="How many.", examples=[20])]
TopAt = Annotated[
    float | None,
    Query(
        ge=0,
        lt=LATEST,
        allow_inf_nan=False,
        description="At which moment of the last two days, in seconds since the epoch; without it: now.",
    ),
]
Matching = Annotated[
    str,
    Query(
        max_length=MAX_MATCHING, description="Only those with this text in id, author or reason.", examples=["spam run"]
    ),
]
After = Annotated[str, Query(max_length=MAX_ID, description="Only those after this id: `next` of the page before.")]
EntriesN = Annotated[int, Query(ge=1, le=MAX_ENTRIES, description="How many, on one page.", examples=[100])]
AfterSuspect = Annotated[str, Query(max_length=MAX_ID, description="Only those after: `next` of the page before.")]
SuspectsN = Annotated[int, Query(ge=1, le=MAX_SUSPECTS, description="How many, on one page.", examples=[100])]
AuditN = Annotated[int, Query(ge=1, le=MAX_AUDIT, description="How many.", examples=[100])]
Actions = Annotated[tuple[Action, ...], Query(max_length=MAX_FILTERS, description="Only these; may be repeated.")]
Stages = Annotated[tuple[Stage, ...], Query(max_length=MAX_FILTERS, description="Only these; may be repeated.")]
OfRule = Annotated[
    str, Query(max_length=MAX_NAME, description="Only where this rule fired, decided, or would have acted.")
]
OfEntity = Annotated[str, Query(max_length=MAX_VALUE, description="Only about this entity, `DIMENSION:VALUE`.")]

# Bodies


class Body(BaseModel):
    """What a client sends; strictly read."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Text = Annotated[str, Field(min_length=1, max_length=MAX_REASON_LENGTH)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
LimitText = Annotated[str, Field(min_length=1, max_length=MAX_NAME, json_schema_extra=LIMIT)]
Target = Annotated[str, Field(min_length=1, max_length=MAX_VALUE, json_schema_extra=TARGET)]
RefusingAction = Literal["reject", "tempfail", "discard"]
assert set(RefusingAction.__args__) == set(REFUSING)  # type: ignore[attr-defined]  # a Literal has its words there


class _Signed(Body):
    target: Target
    """`DIMENSION:VALUE`, or a network such as `ip:192.0.2.0/24`."""
    reason: Text
    """Why; one line."""
    expires_in_seconds: Seconds | None = None
    """When it ends by itself; null: never."""


class NewBan(_Signed):
    """Everything of the target is refused."""

    action: RefusingAction = "reject"
    """How."""
    wide: bool = False
    """Whether so much is meant: a network wider than /16, or /32 of IPv6; a whole `class`, `country`, `asn` or
    `recipient_domain`."""

    def entry(self) -> NewEntry:
        """What the desk is told."""
        return NewEntry(
            kind="ban",
            target=self.target,
            reason=self.reason,
            expires_in_seconds=self.expires_in_seconds,
            action=self.action,
            wide=self.wide,
        )


class NewOverride(_Signed):
    """While it lasts, the limits of a rule are these for the target."""

    rule: Annotated[str, Field(json_schema_extra=RULE)]
    """Whose limits."""
    limits: Annotated[list[LimitText], Field(min_length=1, max_length=MAX_OVERRIDE_LIMITS)]
    """Such as `100/1h`, each window once."""

    def entry(self) -> NewEntry:
        """What the desk is told."""
        return NewEntry(
            kind="override",
            target=self.target,
            reason=self.reason,
            expires_in_seconds=self.expires_in_seconds,
            rule=self.rule,
            limits=tuple(self.limits),
        )


class NewListing(_Signed):
    """The target is on a list."""

    list: Annotated[str, Field(json_schema_extra=LIST)]
    """`allow`: no rule is about it; `block`: it is refused; or a list that rules ask for."""
    wide: bool = False
    """Whether so much is meant to be blocked, or on `allow` to be exempt from all rules: a network wider than /16, or
    /32 of IPv6; a whole `class`, `country` or `asn`, and to be blocked a `recipient_domain`."""

    def entry(self) -> NewEntry:
        """What the desk is told."""
        return NewEntry(
            kind="list",
            target=self.target,
            reason=self.reason,
            expires_in_seconds=self.expires_in_seconds,
            list=self.list,
            wide=self.wide,
        )


class ToRelease(Body):
    """Who is let go of."""

    target: Target
    """`DIMENSION:VALUE`, or a network, as it was held or banned."""
    reason: Text
    """Why; one line."""


class ToReload(Body):
    """Why the rules are read anew."""

    reason: Text
    """One line."""


class TokenWanted(Body):
    """A token to be made."""

    name: Annotated[str, Field(json_schema_extra=NAME)]
    """Whose it is; signs what is done with it."""
    scopes: Annotated[list[Literal["read", "check", "write", "admin"]], Field(min_length=1, max_length=4)]
    """What it allows; `write` includes `read`, and `admin` includes all."""
    reason: Text = "made by hand"
    """What it is for; one line."""
    expires_in_seconds: Seconds | None = None
    """When it ends by itself; null: never."""
    requests_per_second: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """What it may ask for, of each API process; 0: what the settings say."""

    def token(self) -> NewToken:
        """What the desk is told."""
        return NewToken(
            name=self.name,
            scopes=tuple(self.scopes),
            reason=self.reason,
            expires_in_seconds=self.expires_in_seconds,
            requests_per_second=self.requests_per_second,
        )
