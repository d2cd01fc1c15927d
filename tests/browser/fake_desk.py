"""A desk with as much in it as a test wants, and with what strangers would send: for pages, not what is behind them.

`tests/contracts/test_desk.py` holds the real ones; here are ten thousand bans at once, names that no engine would let
through, a store that goes away by a word, and figures that look like those of a busy site.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from reputation.desk.contract import Wanted
from reputation.desk.documents import (
    ActionCount,
    Audit,
    AuditRow,
    Bucket,
    CaseFile,
    Count,
    Distinct,
    EntityPage,
    EntitySeries,
    EntryRow,
    EntryRows,
    Explained,
    Forgotten,
    Level,
    MadeToken,
    NewEntry,
    NewToken,
    Next,
    OutcomeReport,
    OutcomeResults,
    Overview,
    Released,
    Reloaded,
    Reputation,
    RuleReading,
    RuleRow,
    Rules,
    SeriesRow,
    StoreHealth,
    Suspect,
    Suspects,
    Tally,
    TokenRow,
    TokenRows,
    Top,
    TopRow,
    VerdictLine,
    WouldDo,
    WouldRow,
)
from reputation.errors import EntityError, NothingThere, StoreUnavailable
from reputation.verdict import Action

NOW = 1_795_000_000.0
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "javascript:alert(3)",
    "' autofocus onfocus=alert(4) x='",
    "{{ 7 * 7 }}${7*7}",
    "\u202egpj.exe\u202c\u200f\u2067",
    "nul\x00and\x1b[31mbell\x07",
    "line\r\nSet-Cookie: a=b\n\u2028next",
    "z\u0353\u035a\u0348\u034d\u0300\u0301\u0302\u0303\u0304algo",
    "undecodable\udcff\udc80octets",
    "lone\ud800surrogate",
    "a/../../b?c=d&e=f#g%00%2F",
    "x" * 4_096 + "@example.com",
    "</title></textarea></style><svg onload=alert(5)>",
)
"""What strangers would send."""
RULES = (
    ("busy-client", "connect", "enforce", "tarpit", ("5",), "concurrent", ("ip",)),
    ("client-connections", "connect", "shadow", "tempfail", ("500/1h", "10000/24h"), "connections", ("ip",)),
    ("sender-rate", "mail", "enforce", "tempfail", ("100/5m", "600/1h", "5000/24h"), "messages", ("sender",)),
    ("user-messages", "mail", "shadow", "throttle", ("60/5m", "500/1h"), "messages", ("user",)),
    ("harvest-stop", "rcpt", "enforce", "reject", ("50/1h",), "invalid_recipients", ("ip",)),
    ("mail-bomb-divert", "rcpt", "shadow", "tag", ("300/1h",), "distinct(sender)", ("recipient",)),
    ("filter-malware", "data", "enforce", "reject", (), "", ()),
)


@dataclass
class FakeDesk:
    """Fulfils `reputation.desk.contract.Desk`."""

    is_empty: bool = False
    is_away: bool = False
    bans: int = 40
    top_rows: int = 20
    names: Sequence[str] = ()
    """In place of harmless ones, everywhere."""
    done: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[VerdictLine] = field(default_factory=list)
    entries_now: dict[str, EntryRow] = field(default_factory=dict)
    author: str = "tests"

    def __post_init__(self) -> None:
        for at in range(0 if self.is_empty else self.bans):
            row = self._entry(at)
            self.entries_now[row.id] = row
        self.lines = [] if self.is_empty else [self._line(at) for at in range(60)]

    def _ask(self) -> None:
        if self.is_away:
            raise StoreUnavailable("redis://store.example.net: connection refused")

    def _name(self, at: int, usual: str) -> str:
        return self.names[at % len(self.names)] if self.names else usual

    def _entry(self, at: int) -> EntryRow:
        target = f"sender:{self._name(at, f'bulk{at:05}@spam.example')}"
        kind = ("ban", "ban", "override", "list")[at % 4] if self.bans < 1_000 else "ban"
        middle = {"ban": "", "override": "sender-rate|", "list": "allow|"}[kind]
        return EntryRow(
            id=f"{kind}|{middle}{target}#{at:05}" if self.names else f"{kind}|{middle}{target}",
            kind=kind,
            target=target,
            author=self._name(at + 1, ("mona", "rule harvest-stop")[at % 3 == 0]),
            reason=self._name(at + 2, "612 messages in 1 hour, all to strangers"),
            created_at=NOW - 60 * at,
            expires_at=None if at % 5 == 0 else NOW + 3_600 * (1 + at % 30),
            action="reject" if kind == "ban" else "",
            rule="sender-rate" if kind == "override" else "",
            limits=("2000/1h",) if kind == "override" else (),
            list="allow" if kind == "list" else "",
        )

    def _line(self, at: int) -> VerdictLine:
        action = tuple(Action)[(at * 5) % 7]
        sender = self._name(at, f"bulk{at % 9:05}@spam.example")
        return VerdictLine(
            id=f"{int(NOW * 1_000) - 1_000 * (60 - at)}-0",
            at=NOW - 60 + at,
            node="mx1.example.net/811",
            stage=("mail", "rcpt", "data", "connect")[at % 4],
            action=action,
            reason="over-limit" if action != "accept" else "within-limits",
            rule="sender-rate" if action != "accept" else "",
            retry_after_seconds=212.0 if action == "tempfail" else 0.0,
            fired=("sender-rate",),
            would=("user-messages",) if at % 6 == 0 else (),
            client=f"192.0.2.{at % 200 + 1}" if not self.names else "192.0.2.7",
            asn=64_500 + at % 5,
            country="NL",
            helo=self._name(at + 3, "mail.spam.example"),
            user=self._name(at + 4, "newsletter") if at % 5 == 0 else "",
            sender=sender,
            recipients=(self._name(at + 5, f"friend{at}@example.org"),),
            recipient_count=1 + at % 3,
            message_bytes=2_000 * (at % 4),
            entities=(f"sender:{sender}", "ip:192.0.2.7"),
            finding=self._name(at + 6, f"sender-rate sender:{sender} messages 101 of 100/5m"),
            tags=(self._name(at, "bulk"),) if action == "tag" else (),
        )

    # Looking

    async def overview(self) -> Overview:
        up = not self.is_away
        counts = {"accept": 52_000, "tag": 1_900, "tarpit": 320, "throttle": 95, "tempfail": 4_100, "reject": 2_300}
        actions = tuple(
            ActionCount(
                action=action,
                last_5m=0 if self.is_empty else counts.get(action, 0) // 10,
                last_1h=0 if self.is_empty else counts.get(action, 0),
                last_1d=0 if self.is_empty else counts.get(action, 0) * 19,
                buckets=() if self.is_empty else _buckets(counts.get(action, 0), 12, 300.0),
            )
            for action in Action
        )
        return Overview(
            at=NOW,
            store=StoreHealth(
                up=up,
                whole=up,
                name="Valkey 9.1" if up else "redis://store.example.net: connection refused",
                url="redis+cluster://store.example.net:6379",
                answer_ms=0.42 if up else None,
                processes=6,
            ),
            actions=actions if up else (),
            rules=() if self.is_empty or not up else (await self.rules()).rules[:6],
            bans=sum(row.kind == "ban" for row in self.entries_now.values()),
            overrides=sum(row.kind == "override" for row in self.entries_now.values()),
            lists=sum(row.kind == "list" for row in self.entries_now.values()),
        )

    async def top(self, dimension: str, metric: str, window: str, n: int, *, at: float | None = None) -> Top:
        self._ask()
        rows = () if self.is_empty else range(min(n, self.top_rows))
        return Top(
            dimension=dimension,
            metric=metric,
            window=window,
            at=at,
            rows=tuple(
                TopRow(
                    entity=f"{dimension}:{self._name(i, _usual(dimension, i))}",
                    count=int(9_000 / (1 + i) ** 0.8) + 3,
                    banned=i % 7 == 3,
                )
                for i in rows
            ),
        )

    def _check(self, entity: str) -> None:
        dimension, colon, value = entity.partition(":")
        if not colon or not value or dimension not in {"sender", "user", "ip", "prefix", "helo", "recipient"}:
            raise EntityError(f'"{entity}" names no entity: write DIMENSION:VALUE, such as "sender:alice@example.com"')
        self._ask()

    async def explain(self, entity: str) -> Explained:
        page = await self.page(entity)
        return Explained(
            entity=page.entity,
            next=page.next,
            register=page.register,
            rules=page.rules,
            reputation=page.reputation,
            counts=page.counts,
        )

    async def page(self, entity: str) -> EntityPage:
        self._check(entity)
        if self.is_empty:
            return EntityPage(
                entity=entity,
                next=Next(action="accept", reason="within-limits"),
                register=(),
                rules=(),
                reputation=None,
                counts=(),
            )
        own = tuple(row for row in self.entries_now.values() if row.target == entity)
        banned = next((row for row in own if row.kind == "ban"), None)
        return EntityPage(
            entity=entity,
            next=Next(action="reject", reason="banned", entry=banned.id)
            if banned
            else Next(
                action="tempfail",
                reason="over-limit",
                rule="sender-rate",
                reply=self._name(0, "4.7.1 Sending limit reached, 212 s"),
                retry_after_seconds=212.0,
                would=("user-messages",),
            ),
            register=own,
            rules=tuple(_readings(self._name(1, 'class != "submission"'))),
            reputation=_reputation(entity, self._name(2, "spam.example")),
            counts=tuple(
                Count(metric=metric, window=window, count=count * times)
                for metric, count in (("messages", 104), ("recipients", 410), ("bytes", 2_400_000), ("spam", 31))
                for window, times in (("5m", 1), ("1h", 6), ("1d", 9))
            ),
            distinct=(
                Distinct(of="ip", last_hour=14, last_day=31),
                Distinct(of="recipient", last_hour=390, last_day=2_100),
            ),
            recent=tuple(reversed(self.lines[-30:])),
        )

    async def series(self, entity: str) -> EntitySeries:
        self._check(entity)
        if self.is_empty:
            return EntitySeries(entity=entity, series=())
        return EntitySeries(
            entity=entity,
            series=tuple(
                SeriesRow(
                    metric=metric,
                    window=window,
                    rule="",
                    count=count * buckets,
                    bucket_seconds=seconds,
                    buckets=_buckets(count * buckets, buckets, seconds),
                )
                for metric, count in (("messages", 52), ("recipients", 170), ("bytes", 220_000))
                for window, buckets, seconds in (("5m", 10, 30.0), ("1h", 12, 300.0), ("1d", 24, 3_600.0))
            ),
        )

    async def entries(self, *, kind: str = "", matching: str = "", after: str = "", n: int = 100) -> EntryRows:
        rows = sorted(
            (
                row
                for row in self.entries_now.values()
                if (not kind or row.kind == kind)
                and matching.casefold() in f"{row.id} {row.author} {row.reason}".casefold()
            ),
            key=lambda row: row.id,
        )
        page = [row for row in rows if row.id > after][: n + 1]
        return EntryRows(entries=tuple(page[:n]), total=len(rows), next=page[n - 1].id if len(page) > n else None)

    async def entry(self, id: str) -> EntryRow:
        if id not in self.entries_now:
            raise NothingThere(f'there is no entry "{id}", or it has ended')
        return self.entries_now[id]

    async def audit(self, n: int = 100) -> Audit:
        self._ask()
        lines = [
            AuditRow(
                at=NOW - 90 * at,
                what=("put", "lift", "expired", "forget")[at % 4],
                id=f"ban|sender:{self._name(at, f'bulk{at:05}@spam.example')}",
                author="" if at % 4 == 2 else self._name(at + 1, "mona"),
                reason=self._name(at + 2, "612 messages in 1 hour"),
            )
            for at in range(0 if self.is_empty else 120)
        ]
        return Audit(lines=tuple(lines[:n]))

    async def rules(self) -> Rules:
        self._ask()
        if self.is_empty:
            return Rules(rules=())
        rows = []
        for at, (name, stage, mode, action, limits, count, key) in enumerate(RULES):
            tally = Tally(last_5m=3 * at, last_1h=41 * at, last_1d=700 * at, last_at=NOW - 30 * at if at else None)
            never = Tally(last_5m=0, last_1h=0, last_1d=0, last_at=None)
            rows.append(
                RuleRow(
                    rule=name,
                    stage=stage,
                    mode=mode,
                    hits=tally if mode == "enforce" else never,
                    would_hit=tally if mode == "shadow" else never,
                    action=action,
                    when=self._name(at, 'filter.malware != ""' if not limits else ""),
                    key=key,
                    count=count,
                    limits=limits,
                    on_store_failure="accept",
                )
            )
        return Rules(rules=tuple(rows))

    async def would_do(self, rule: str) -> WouldDo:
        self._ask()
        rows = [
            WouldRow(entity=f"user:{self._name(at, f'staff{at}')}", verdicts=90 // (at + 1), accepted=40 // (at + 1))
            for at in range(12)
        ]
        return WouldDo(
            rule=rule,
            since=NOW - 7_200,
            verdicts=sum(row.verdicts for row in rows),
            changed=sum(row.accepted for row in rows),
            rows=tuple(rows),
            recent=tuple(self.lines[:10]),
        )

    async def suspects(self, *, after: str = "", n: int = 100) -> Suspects:
        rows = [] if self.is_empty else range(5)
        return Suspects(
            suspects=tuple(
                Suspect(
                    entity=f"user:{self._name(at, f'staff{at}')}",
                    rule="account-strangers",
                    since=NOW - 600 * (at + 1),
                    until=NOW + 7_200,
                    reason=self._name(at + 1, "account-strangers user:staff distinct(recipient) 201 of 200/1h"),
                )
                for at in rows
            )
        )

    async def case_file(self, entity: str) -> CaseFile:
        page = await self.page(entity)
        held = next((row for row in (await self.suspects()).suspects if row.entity == entity), None)
        name = self._name(3, "friend@example.org")
        return CaseFile(
            suspect=held,
            page=page,
            first_seen=None if self.is_empty else NOW - 5_000,
            last_seen=None if self.is_empty else NOW - 5,
            clients={} if self.is_empty else {"192.0.2.7": 41, "198.51.100.9": 12},
            asns={} if self.is_empty else {"64500": 53},
            countries={} if self.is_empty else {"NL": 41, "BR": 12},
            recipients={} if self.is_empty else {name: 9, "other@example.org": 4},
            actions={} if self.is_empty else {"accept": 30, "tempfail": 23},
            advice=(
                "Ask the owner by another way than mail whether the messages are theirs.",
                "If not: release later.",
            ),
        )

    # Acting

    async def put(self, entry: NewEntry) -> EntryRow:
        self._ask()
        self._check(entry.target)
        middle = {"ban": "", "override": f"{entry.rule}|", "list": f"{entry.list}|"}[entry.kind]
        row = EntryRow(
            id=f"{entry.kind}|{middle}{entry.target}",
            kind=entry.kind,
            target=entry.target,
            author=self.author,
            reason=entry.reason,
            created_at=NOW,
            expires_at=None if entry.expires_in_seconds is None else NOW + entry.expires_in_seconds,
            action=entry.action if entry.kind == "ban" else "",
            rule=entry.rule,
            limits=entry.limits,
            list=entry.list,
        )
        self.entries_now[row.id] = row
        self.done.append(("put", row.id, entry.reason))
        return row

    async def lift(self, id: str, *, reason: str) -> EntryRow:
        self._ask()
        row = await self.entry(id)
        del self.entries_now[id]
        self.done.append(("lift", id, reason))
        return row

    async def release(self, target: str, *, reason: str) -> Released:
        self._ask()
        self.done.append(("release", target, reason))
        return Released(lifted=(await self._put_one(target),))

    async def _put_one(self, target: str) -> EntryRow:
        return replace(self._entry(0), target=target)

    async def forget(self, entity: str, *, reason: str) -> Forgotten:
        self._check(entity)
        self.done.append(("forget", entity, reason))
        return Forgotten(entity=entity, counters=12, verdicts=30)

    async def reload(self, *, reason: str) -> Reloaded:
        self.done.append(("reload", reason))
        return Reloaded(rules=len(RULES))

    async def learn(self, reports: Sequence[OutcomeReport]) -> OutcomeResults:
        raise NotImplementedError

    async def verdicts(self, wanted: Wanted, *, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        told = 0 if after is not None else len(self.lines)
        while True:
            self._ask()
            for line in self.lines[told:]:
                if wanted.fits(line) and (after is None or line.id > after):
                    yield line
            told = len(self.lines)
            yield None
            await asyncio.sleep(0.05)

    async def tokens(self) -> TokenRows:
        return TokenRows(tokens=())

    async def make_token(self, new: NewToken) -> MadeToken:
        raise NotImplementedError

    async def revoke_token(self, token_id: str, *, reason: str) -> TokenRow:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to let go of."""


def _usual(dimension: str, at: int) -> str:
    match dimension:
        case "ip":
            return f"192.0.2.{at % 250 + 1}"
        case "prefix":
            return f"198.51.{at % 250}.0/24"
        case _:
            return f"bulk{at:05}@spam.example"


def _buckets(total: int, buckets: int, seconds: float) -> tuple[Bucket, ...]:
    begin = NOW // seconds * seconds - (buckets - 1) * seconds
    shape = [1 + math.sin(at / 1.7) * 0.6 + at / buckets for at in range(buckets)]
    return tuple(
        Bucket(start=begin + at * seconds, count=int(total * part / sum(shape))) for at, part in enumerate(shape)
    )


def _readings(when: str) -> list[RuleReading]:
    rows = (
        ("sender-rate", "messages", 104, "100/5m", 0, 212.0, "enforce"),
        ("sender-rate", "messages", 530, "600/1h", 70, 0.0, "enforce"),
        ("sender-rate", "messages", 940, "5000/24h", 4_060, 0.0, "enforce"),
        ("user-messages", "messages", 12, "60/5m", 48, 0.0, "shadow"),
        ("mail-bomb-divert", "distinct(sender)", 0, "300/1h", 300, 0.0, "shadow"),
        ("harvest-stop", "invalid_recipients", 0, "50/1h", 50, 0.0, "enforce"),
    )
    return [
        RuleReading(
            rule=rule,
            metric=metric,
            count=count,
            limit=limit,
            remaining=remaining,
            retry_after_seconds=retry,
            when=when if rule == "user-messages" else "",
            mode=mode,
            action="tempfail",
        )
        for rule, metric, count, limit, remaining, retry, mode in rows
    ]


def _reputation(entity: str, domain: str) -> Reputation:
    return Reputation(
        score=0.81,
        confidence=0.92,
        active_now=0.77,
        repeat_offender=0.64,
        base=0.18,
        levels=(
            Level(
                entity=f"sender_domain:{domain}",
                good=12.0,
                bad=60.5,
                good_lately=2.0,
                bad_lately=31.0,
                prior=0.18,
                posterior=0.66,
                confidence=0.9,
            ),
            Level(
                entity=entity,
                good=1.0,
                bad=31.0,
                good_lately=0.0,
                bad_lately=29.0,
                prior=0.66,
                posterior=0.81,
                confidence=0.92,
            ),
        ),
    )
