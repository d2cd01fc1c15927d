"""Short ways to write down what operators put down: bans, lists, overrides."""

from ipaddress import ip_network

from hypothesis import strategies as st

from reputation.entries import Ban, Listing, Network, Override, Target, parse_target
from reputation.spelling import Spelling
from reputation.verdict import Action
from reputation.windows import Limit

SPELLING = Spelling()
RULE = "sender-messages"


def target(text: str) -> Target:
    return parse_target(text, SPELLING)


def ban(text: str, action: Action = Action.REJECT, *, expires_at: float | None = None) -> Ban:
    return Ban(
        target=target(text), action=action, author="eve", reason="spam run", created_at=0.0, expires_at=expires_at
    )


def listing(name: str, text: str, *, expires_at: float | None = None) -> Listing:
    return Listing(
        target=target(text), list=name, author="eve", reason="a partner", created_at=0.0, expires_at=expires_at
    )


def override(text: str, *limits: str, rule: str = RULE, expires_at: float | None = None) -> Override:
    return Override(
        target=target(text),
        rule=rule,
        limits=tuple(Limit.parse(limit) for limit in limits or ("500/1h",)),
        author="eve",
        reason="newsletter",
        created_at=0.0,
        expires_at=expires_at,
    )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Often around the same few addresses, so that they contain one another."""
    bits = draw(st.sampled_from([32, 128]))
    number = draw(st.sampled_from([0xC0000207, 0x20010DB8 << 96]) | st.integers(0, 2**bits - 1)) % 2**bits
    return ip_network((number.to_bytes(bits // 8), draw(st.integers(0, bits))), strict=False)
