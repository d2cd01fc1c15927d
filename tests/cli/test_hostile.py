"""Names that are meant to harm a terminal, or a spreadsheet, come out as plain text everywhere."""

import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from reputation.cli import entries, explain, rules, status, suspects, tokens, top, verdicts
from reputation.cli.answering import Show
from reputation.cli.entity import show_forgotten, show_page, show_series
from reputation.cli.outcome import show as show_outcome
from reputation.cli.printing import add_row, show_table, table
from reputation.desk import documents as d
from tests.cli.site_for_tests import HOSTILE, LONG, RTL, Site
from tests.cli.terminals import at_terminal

EVIL = f"\x1b[2J\x1b]0;owned\x07\x9b31m{RTL}\0\r\n\u2028[red]loud[/red]\ud800 :skull:"
WIDTHS = (40, 80, 120)
NOW = 1_000_000.0
ENTRY = d.EntryRow(
    id=EVIL,
    kind="list",
    target=EVIL,
    author=EVIL,
    reason=EVIL,
    created_at=0.0,
    expires_at=2e12,
    action=EVIL,
    rule=EVIL,
    limits=(EVIL,),
    list=EVIL,
)
VERDICT = d.VerdictLine(
    id=EVIL,
    at=0.0,
    node=EVIL,
    stage=EVIL,
    action=EVIL,
    reason=EVIL,
    rule=EVIL,
    entry=EVIL,
    would=(EVIL,),
    client=EVIL,
    helo=EVIL,
    user=EVIL,
    sender=EVIL,
    recipients=(EVIL, EVIL),
    recipient_count=9,
    finding=EVIL,
)
TALLY = d.Tally(last_5m=1, last_1h=1, last_1d=1, last_at=NOW)
RULE = d.RuleRow(rule=EVIL, stage=EVIL, mode=EVIL, action=EVIL, hits=TALLY, would_hit=TALLY, when=EVIL)
LEVEL = d.Level(entity=EVIL, good=1, bad=1, good_lately=1, bad_lately=1, prior=0.5, posterior=0.5, confidence=0.5)
PAGE = d.EntityPage(
    entity=EVIL,
    next=d.Next(action=EVIL, reason=EVIL, rule=EVIL, entry=EVIL, reply=EVIL, would=(EVIL,), retry_after_seconds=1.0),
    register=(ENTRY, replace(ENTRY, kind="ban"), replace(ENTRY, kind="override")),
    rules=(
        d.RuleReading(
            rule=EVIL, metric=EVIL, count=1, limit=EVIL, remaining=0, retry_after_seconds=1.0, when=EVIL, action=EVIL
        ),
    ),
    reputation=d.Reputation(score=0.5, confidence=0.5, active_now=0.5, repeat_offender=0.5, base=0.5, levels=(LEVEL,)),
    counts=(d.Count(metric=EVIL, window=EVIL, count=1),),
    distinct=(d.Distinct(of=EVIL, last_hour=1, last_day=1),),
    recent=(VERDICT,),
)
SERIES = d.SeriesRow(
    metric=EVIL, window=EVIL, rule=EVIL, count=1, bucket_seconds=60.0, buckets=(d.Bucket(start=0.0, count=1),)
)
SUSPECT = d.Suspect(entity=EVIL, rule=EVIL, since=0.0, until=1e300, reason=EVIL)
TOKEN = d.TokenRow(token_id=EVIL, name=EVIL, scopes=(EVIL,), author=EVIL, reason=EVIL, created_at=0.0, expires_at=1.0)
STORE = d.StoreHealth(up=True, whole=False, name=EVIL, url=EVIL, answer_ms=1.0, processes=1)
OVERVIEW = d.Overview(
    at=0.0,
    store=STORE,
    actions=(d.ActionCount(action=EVIL, last_5m=1, last_1h=1, last_1d=1),),
    rules=(RULE,),
    bans=1,
    overrides=1,
    lists=1,
)


def shown_everything() -> Iterator[tuple[str, Callable[[Console], None]]]:
    """Every document that is shown, each of its texts evil."""

    def of(show: Show[d.Top], document: object) -> Callable[[Console], None]:
        return lambda console: show(console, document, NOW)  # type: ignore[arg-type]  # each with its own

    top_rows = (d.TopRow(entity=EVIL, count=2, banned=True), d.TopRow(entity=f"sender:{EVIL}", count=1))
    shows: dict[str, tuple[object, object]] = {
        "top": (top.show, d.Top(dimension=EVIL, metric=EVIL, window=EVIL, at=0.0, rows=top_rows)),
        "explain": (explain.show, PAGE),
        "page": (show_page, PAGE),
        "forgotten": (show_forgotten, d.Forgotten(entity=EVIL, counters=1, verdicts=1, entries=(EVIL,))),
        "entries": (entries.show, d.EntryRows(entries=(ENTRY,), total=1)),
        "put list": (entries.show_put, ENTRY),
        "put ban": (entries.show_put, replace(ENTRY, kind="ban")),
        "put override": (entries.show_put, replace(ENTRY, kind="override")),
        "lifted": (entries.show_lifted, ENTRY),
        "released": (entries.show_released, d.Released(lifted=(ENTRY,))),
        "rules": (rules.show, d.Rules(rules=(RULE,))),
        "would do": (
            rules.show_would_do,
            d.WouldDo(
                rule=EVIL,
                since=0.0,
                verdicts=1,
                changed=1,
                rows=(d.WouldRow(entity=EVIL, verdicts=1, accepted=1),),
                recent=(VERDICT,),
            ),
        ),
        "status": (status.show_overview, OVERVIEW),
        "status, away": (status.show_overview, replace(OVERVIEW, store=replace(STORE, up=False))),
        "audit": (
            status.show_audit,
            d.Audit(lines=(d.AuditRow(at=0.0, what=EVIL, id=EVIL, author=EVIL, reason=EVIL),)),
        ),
        "suspects": (suspects.show, d.Suspects(suspects=(SUSPECT,))),
        "case": (
            suspects.show_case,
            d.CaseFile(
                suspect=SUSPECT,
                page=PAGE,
                clients={EVIL: 1},
                asns={EVIL: 1},
                countries={EVIL: 1},
                recipients={EVIL: 1},
                actions={EVIL: 1},
                advice=(EVIL,),
            ),
        ),
        "tokens": (tokens.show, d.TokenRows(tokens=(TOKEN,))),
        "revoked": (tokens.show_revoked, TOKEN),
        "outcome": (
            show_outcome,
            d.OutcomeResults(results=(d.OutcomeResult(status=EVIL, entities=(EVIL,), key=EVIL),)),
        ),
        "recent": (lambda console, _, now: verdicts.show_recent(console, [VERDICT], now), None),
        "tail": (lambda console, _document, _now: console.print(verdicts.line_of(VERDICT), soft_wrap=True), None),
        "series": (lambda console, _document, _now: show_series(console, EVIL, [SERIES], is_large=False), None),
        "series, large": (lambda console, _document, _now: show_series(console, EVIL, [SERIES], is_large=True), None),
    }
    for name, (show, document) in shows.items():
        yield name, of(show, document)  # type: ignore[arg-type]  # each with its own


EVERYTHING = dict(shown_everything())


def harmful(text: str) -> set[str]:
    """What stands in a text that a terminal would not print as it is."""
    return {
        each for each in text if each != "\n" and unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Co"}
    }


def printed(name: str, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    EVERYTHING[name](console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_that_is_shown_can_harm_a_terminal(name: str) -> None:
    text = printed(name, 5_000)
    assert harmful(text) == set()
    assert "[red]loud[/red]" in text, "no markup is read"
    assert ":skull:" in text
    assert "\\x1b[2J" in text, "and it can be seen what stands there"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_is_cut_off_where_there_is_little_room(name: str, width: int) -> None:
    folded, whole = (Counter(printed(name, each)) for each in (width, 5_000))
    for blank in " \n─":
        folded.pop(blank, None)
        whole.pop(blank, None)
    assert folded == whole


def test_a_mistake_tells_of_evil_words_harmlessly(site: Site) -> None:
    for command in (("explain", "\x1b[31m"), ("unban", "sender:\x1b[31m\u202e"), ("top", "--metric", "\x1b[31m")):
        told = site.run_here(*command)
        assert told.status == 1
        assert harmful(told.out + told.err) == set()
    assert "\\x1b[31m" in site.run_here("explain", "\x1b[31m").err, "and it can be seen what was typed"


@pytest.mark.parametrize("columns", WIDTHS)
def test_names_of_strangers_at_a_real_terminal(store_site: Site, columns: int) -> None:
    for command in (("top", "sender", "--n", "50"), ("show", "ip:203.0.113.5"), ("audit",)):
        with at_terminal(store_site, *command, columns=columns) as terminal:
            assert terminal.wait() == 0
            for harm in ("\x1b[2J", "\x1b]", "\x07", RTL, "\0"):
                assert harm not in terminal.shown
            assert "…" not in terminal.shown


def test_all_harmful_names_are_told_apart(store_site: Site) -> None:
    rows = store_site.run_here("top", "sender", "--n", "50", "--json").json["rows"]
    assert len({row["entity"] for row in rows}) == len(rows) >= len(HOSTILE)
    assert all(len(row["entity"]) < 300 for row in rows), "4 kB are shortened"


@pytest.mark.parametrize("width", WIDTHS)
def test_four_kilobytes_in_a_cell_are_folded_and_not_cut(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    rows = table("a", "b")
    add_row(rows, LONG, "short")
    show_table(console, rows)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("x") == LONG.count("x")
