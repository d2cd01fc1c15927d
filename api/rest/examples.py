"""The documents that the API's own document shows, written for it.

Names and addresses are those that are kept for examples (RFC 2606, RFC 5737).
"""

from reputation.desk import documents

NOON = 1_764_072_000.0
ALICE = "sender:alice@example.com"

BAN = documents.EntryRow(
    id="ban|ip:192.0.2.7",
    kind="ban",
    target="ip:192.0.2.7",
    author="carol",
    reason="spam run",
    created_at=NOON,
    expires_at=NOON + 3_600,
    action="reject",
)
OVERRIDE = documents.EntryRow(
    id="override|sender-rate|sender:newsletter@example.org",
    kind="override",
    target="sender:newsletter@example.org",
    author="carol",
    reason="monthly newsletter",
    created_at=NOON,
    expires_at=NOON + 86_400,
    rule="sender-rate",
    limits=("5000/1h",),
)
LISTING = documents.EntryRow(
    id="list|allow|ip:198.51.100.0/24",
    kind="list",
    target="ip:198.51.100.0/24",
    author="carol",
    reason="our own gateways",
    created_at=NOON,
    expires_at=None,
    list="allow",
)
BANS = documents.EntryRows(entries=(BAN,), total=1)
OVERRIDES = documents.EntryRows(entries=(OVERRIDE,), total=1)
LISTINGS = documents.EntryRows(entries=(LISTING,), total=1)
ENTRIES = documents.EntryRows(entries=(BAN, LISTING), total=3, next=LISTING.id)

VERDICT = documents.VerdictLine(
    id="1764072000123-0",
    at=NOON + 0.1,
    node="mx1.example.net/4242",
    stage="rcpt",
    action="tempfail",
    reason="over-limit",
    rule="sender-rate",
    retry_after_seconds=42.0,
    fired=("sender-rate",),
    client="192.0.2.7",
    asn=64_500,
    country="NL",
    helo="mail.example.com",
    sender="alice@example.com",
    recipients=("bob@example.net",),
    recipient_count=1,
    session="b0f3c1",
    entities=("ip:192.0.2.7", ALICE),
    finding="sender-rate: 100 of 100/1h messages",
)
_NEXT = documents.Next(
    action="tempfail",
    reason="over-limit",
    rule="sender-rate",
    reply="too many messages, try again later",
    retry_after_seconds=42.0,
)
_READING = documents.RuleReading(
    rule="sender-rate",
    metric="messages",
    count=100,
    limit="100/1h",
    remaining=0,
    retry_after_seconds=42.0,
    mode="enforce",
    action="tempfail",
)
_REPUTATION = documents.Reputation(
    score=0.81,
    confidence=0.64,
    active_now=0.9,
    repeat_offender=0.2,
    base=0.12,
    levels=(
        documents.Level(
            entity=ALICE,
            good=3.0,
            bad=21.0,
            good_lately=0.0,
            bad_lately=18.0,
            prior=0.3,
            posterior=0.81,
            confidence=0.64,
        ),
    ),
)
_COUNTS = (
    documents.Count(metric="messages", window="5m", count=12),
    documents.Count(metric="messages", window="1h", count=100),
    documents.Count(metric="messages", window="1d", count=310),
)
EXPLAINED = documents.Explained(
    entity=ALICE, next=_NEXT, register=(), rules=(_READING,), reputation=_REPUTATION, counts=_COUNTS
)
PAGE = documents.EntityPage(
    entity="user:alice",
    next=_NEXT,
    register=(),
    rules=(_READING,),
    reputation=_REPUTATION,
    counts=_COUNTS,
    distinct=(documents.Distinct(of="ip", last_hour=3, last_day=9),),
    recent=(VERDICT,),
)
SERIES = documents.EntitySeries(
    entity=ALICE,
    series=(
        documents.SeriesRow(
            metric="messages",
            window="1h",
            rule="",
            count=100,
            bucket_seconds=300.0,
            buckets=(documents.Bucket(start=NOON - 600, count=60), documents.Bucket(start=NOON - 300, count=40)),
        ),
    ),
)
FORGOTTEN = documents.Forgotten(entity=ALICE, counters=14, verdicts=3, entries=("ban|sender:alice@example.com",))
TOP = documents.Top(
    dimension="sender",
    metric="messages",
    window="1h",
    at=None,
    rows=(
        documents.TopRow(entity=ALICE, count=100),
        documents.TopRow(entity="sender:eve@example.org", count=64, banned=True),
    ),
)

_TALLY = documents.Tally(last_5m=2, last_1h=31, last_1d=120, last_at=NOON)
_NEVER = documents.Tally(last_5m=0, last_1h=0, last_1d=0, last_at=None)
_RULE = documents.RuleRow(
    rule="sender-rate",
    stage="rcpt",
    mode="enforce",
    hits=_TALLY,
    would_hit=_NEVER,
    action="tempfail",
    key=("sender",),
    count="messages",
    limits=("100/1h",),
    on_store_failure="accept",
)
RULES = documents.Rules(rules=(_RULE,))
WOULD_DO = documents.WouldDo(
    rule="sender-rate",
    since=NOON - 86_400,
    verdicts=40,
    changed=31,
    rows=(documents.WouldRow(entity=ALICE, verdicts=40, accepted=31),),
    recent=(VERDICT,),
)
RELOADED = documents.Reloaded(rules=12)
AUDIT = documents.Audit(
    lines=(documents.AuditRow(at=NOON, what="put", id="ban|ip:192.0.2.7", author="carol", reason="spam run"),)
)
OVERVIEW = documents.Overview(
    at=NOON,
    store=documents.StoreHealth(
        up=True, whole=True, name="valkey 9.0.0", url="redis://store.example.net:6379", answer_ms=0.21, processes=4
    ),
    actions=(
        documents.ActionCount(
            action="accept",
            last_5m=900,
            last_1h=12_000,
            last_1d=250_000,
            buckets=(documents.Bucket(start=NOON - 300, count=900),),
        ),
        documents.ActionCount(action="tempfail", last_5m=2, last_1h=31, last_1d=120),
    ),
    rules=(_RULE,),
    bans=1,
    overrides=1,
    lists=1,
)

_SUSPECT = documents.Suspect(
    entity="user:alice", rule="stolen-account", since=NOON, until=NOON + 86_400, reason="stolen-account: 60 of 50/1h"
)
SUSPECTS = documents.Suspects(suspects=(_SUSPECT,), total=1)
CASE_FILE = documents.CaseFile(
    suspect=_SUSPECT,
    page=PAGE,
    first_seen=NOON - 3_600,
    last_seen=NOON,
    clients={"192.0.2.7": 58, "198.51.100.9": 2},
    asns={"64500": 58},
    countries={"NL": 58},
    recipients={"bob@example.net": 4},
    actions={"accept": 50, "reject": 10},
    advice=("Ask the owner by another way than mail whether the messages are theirs.",),
)
RELEASED = documents.Released(lifted=(BAN,))

_TOKEN = documents.TokenRow(
    token_id="3f9c2a17",  # noqa: S106 - an id is no secret
    name="carol",
    scopes=("write",),
    author="root",
    reason="abuse desk",
    created_at=NOON,
    expires_at=NOON + 90 * 86_400,
)
TOKENS = documents.TokenRows(tokens=(_TOKEN,))
TOKEN = _TOKEN
MADE_TOKEN = documents.MadeToken(token="rpt_3f9c2a17_" + "x" * 43, row=_TOKEN)
STREAM = """\
retry: 2000

id: 1764072000123-0
event: verdict
data: {"id": "1764072000123-0", "at": 1764072000.1, "node": "mx1.example.net/4242", "stage": "rcpt"}

: still there

"""
