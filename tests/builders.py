"""Short ways to write down what tests ask: events, meters, charges, moments."""

from ipaddress import ip_address

from reputation.charges import Charge, Charging, Kind, Meter, Over, Plan
from reputation.events import NULL_SENDER, Auth, Connect, Data, Disconnect, Event, Helo, Mail, Rcpt, Session
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric, distinct
from reputation.rules import LEASE, Rule
from reputation.score import KINDS, EvidenceKind
from reputation.verdict import Action
from reputation.windows import MICROSECONDS, Limit, Window

MIDNIGHT_US = 19_700 * 86_400 * MICROSECONDS
"""A midnight (UTC), where buckets of every common width begin."""

ALICE = Key(Entity("sender", "alice@example.com"), Metric.MESSAGES)
BOB = Key(Entity("sender", "bob@example.com"), Metric.MESSAGES)
CORRESPONDENTS = Key(ALICE.entity, distinct(Dimension.RECIPIENT), "r")
RECENT = Key(ALICE.entity, Metric.MESSAGES, "r")
SESSIONS = Key(ALICE.entity, Metric.CONCURRENT, "r")
SEEN = Key(ALICE.entity, EVIDENCE)
KNOWN = Key(ALICE.entity, "seen")
REMEMBERED = Window(90 * 86_400)
"""For how long it is known that somebody was seen."""


def us(seconds: float) -> int:
    """The moment that many seconds after midnight, in microseconds."""
    return MIDNIGHT_US + round(seconds * MICROSECONDS)


def meter(
    scope: str,
    *limits: str,
    charging: Charging = Charging.ACCEPTED,
    over: Over = Over.DENIES,
) -> Meter:
    """A rule's meter; it denies and is charged for what is accepted, if nothing else is said."""
    return Meter.limited(scope, [Limit.parse(limit) for limit in limits], charging, over)


def tracked(*seconds: int) -> Meter:
    """An entity's own meter, without limits."""
    return Meter(windows=tuple(Window(each) for each in seconds))


def charge(*meters: Meter, key: Key = ALICE, cost: int = 1) -> Charge:
    """`cost` units on the meters of one key."""
    return Charge(key, Plan(meters), cost)


def came(
    *limits: str,
    cost: int = 1,
    charging: Charging = Charging.ACCEPTED,
    over: Over = Over.DENIES,
    key: Key = RECENT,
) -> Charge:
    """So many units of an interpolated rule."""
    return Charge(key, Plan((meter("r", *limits, charging=charging, over=over),), Kind.MOMENTS), cost)


def met(
    member: str,
    *limits: str,
    charging: Charging = Charging.ACCEPTED,
    over: Over = Over.DENIES,
    key: Key = CORRESPONDENTS,
) -> Charge:
    """One of the different members of a key, of which there may be so many."""
    return Charge(key, Plan((meter("r", *limits, charging=charging, over=over),), Kind.DISTINCT), 1, member)


def lease(
    member: str,
    limit: int,
    *,
    window: Window = LEASE,
    charging: Charging = Charging.ACCEPTED,
    over: Over = Over.DENIES,
    key: Key = SESSIONS,
) -> Charge:
    """A lease of `member`, of which `limit` may be held at once."""
    held = Meter.limited("r", [Limit(limit, window)], charging, over)
    return Charge(key, Plan((held,), Kind.LEASES), 1, member)


def evidence(kind: EvidenceKind | None = None, weight: float = 1.0, *, key: Key = SEEN) -> Charge:
    """Evidence of that weight; without a kind it is only read."""
    position = "" if kind is None else str(KINDS.index(kind))
    return Charge(key, Plan(kind=Kind.EVIDENCE), round(1_000 * weight), position)


def seen(
    *,
    window: Window = REMEMBERED,
    charging: Charging = Charging.ACCEPTED,
    over: Over = Over.NOTES,
    key: Key = KNOWN,
) -> Charge:
    """That somebody was seen, which is known for so long."""
    return Charge(key, Plan((Meter(windows=(window,), charging=charging, over=over),), Kind.SEEN))


def rule(
    name: str = "sender-messages",
    event: Event | None = None,
    *,
    key: tuple[Dimension, ...] = (Dimension.SENDER,),
    count: str = Metric.MESSAGES,
    limits: tuple[str, ...] = ("1/1m",),
    action: Action = Action.TEMPFAIL,
    **more: object,
) -> Rule:
    """A rule; at MAIL, one message a minute and sender, tempfail, if nothing else is said."""
    parsed = tuple(Limit.parse(limit) for limit in limits)
    stage = (event or mail()).stage
    return Rule(name=name, stage=stage, key=key, count=count, limits=parsed, action=action, **more)  # type: ignore[arg-type]  # what a test passes on


def session(client: str = "192.0.2.1", *, helo: str = "mail.example.com", user: str = "") -> Session:
    """A session of `client`."""
    return Session(id="s1", client=ip_address(client), helo=helo, user=user)


def connect(client: str = "192.0.2.1") -> Connect:
    return Connect(session=session(client))


def disconnect(client: str = "192.0.2.1") -> Disconnect:
    return Disconnect(session=session(client))


def helo(name: str) -> Helo:
    return Helo(session=session(helo=name))


def auth(login: str, *, success: bool) -> Auth:
    return Auth(session=session(user=login if success else ""), login=login, success=success)


def mail(sender: str = "alice@example.com", *, user: str = "", client: str = "192.0.2.1") -> Mail:
    return Mail(session=session(client, user=user), sender=sender)


def rcpt(recipient: str, sender: str = "alice@example.com") -> Rcpt:
    return Rcpt(session=session(), sender=sender, recipient=recipient)


def data(
    *recipients: str, sender: str = "alice@example.com", message_bytes: int = 1_000, subject: str = "Hello"
) -> Data:
    return Data(session=session(), sender=sender, recipients=recipients, message_bytes=message_bytes, subject=subject)


EVENTS: tuple[Event, ...] = (
    connect(),
    helo("mail.example.com"),
    auth("alice", success=True),
    mail(NULL_SENDER),
    mail("alice@example.com"),
    rcpt("bob@example.net"),
    data("bob@example.net", "carol@example.net"),
    disconnect(),
)
"""One of each, and a bounce."""
