"""What the live stream comes to: case files, and what a rule in shadow mode would have done."""

from reputation.desk.case_files import blamed, case_file, suspects_of, would_do
from reputation.desk.documents import EntityPage, Next, VerdictLine
from reputation.entries import Ban
from reputation.holds import HELD_BY
from reputation.keys import Dimension
from reputation.register import Register
from tests.entries_for_tests import ban, target


def line(
    number: int, action: str = "accept", *, would: tuple[str, ...] = (), sender: str = "a@x", **more: object
) -> VerdictLine:
    fields = {"client": "192.0.2.7", "entities": ("ip:192.0.2.7", f"sender:{sender}"), **more}
    return VerdictLine(
        id=f"{number}-0",
        at=float(number),
        node="n",
        stage="mail",
        action=action,
        reason="r",
        would=would,
        sender=sender,
        **fields,  # type: ignore[arg-type]  # of a line of a test
    )


def held(user: str, rule: str, created_at: float, expires_at: float | None = None) -> Ban:
    return Ban(
        target=target(f"user:{user}"),
        author=f"{HELD_BY}{rule}",
        reason="too many",
        created_at=created_at,
        expires_at=expires_at,
    )


def test_suspects_are_those_whom_rules_hold_now() -> None:
    register = Register.of(
        [held("old", "many", 10, 20), held("bob", "many", 30), held("alice", "far", 40, 90), ban("user:carol")]
    )
    found = suspects_of(register, 50).suspects
    assert [(each.entity, each.rule, each.until) for each in found] == [
        ("user:alice", "far", 90),
        ("user:bob", "many", None),
    ]


def test_a_rule_would_change_what_was_accepted() -> None:
    lines = [
        line(5, "tempfail", would=("shy",)),
        line(4, "accept", would=("shy", "other")),
        line(3, "tag", would=("shy",), sender="b@x"),
        line(2, "accept", would=("other",)),
    ]
    found = would_do("shy", lines, 1.0)
    assert (found.verdicts, found.changed, found.since) == (3, 2, 1.0)
    assert [(row.entity, row.verdicts, row.accepted) for row in found.rows] == [
        ("sender:a@x", 2, 1),
        ("sender:b@x", 1, 1),
    ]
    assert [each.id for each in found.recent] == ["5-0", "4-0", "3-0"]
    assert would_do("none", [], None).rows == ()


def test_a_log_in_says_more_than_a_sender() -> None:
    assert blamed(line(1, entities=("ip:192.0.2.7", "sender:a@x", "user:alice"))) == "user:alice"
    assert blamed(line(1)) == "sender:a@x"
    assert blamed(line(1, entities=("ip:192.0.2.7",))) == "ip:192.0.2.7"
    assert blamed(line(1, entities=())) == "ip:192.0.2.7"


def test_a_rule_is_told_of_whom_it_counts() -> None:
    bomb = line(1, entities=("ip:192.0.2.7", "sender:a@x", "recipient:victim@y"))
    assert blamed(bomb, (Dimension.RECIPIENT,)) == "recipient:victim@y"
    assert blamed(bomb, (Dimension.IP, Dimension.SENDER)) == "ip+sender:192.0.2.7,a@x"
    assert blamed(bomb, (Dimension.USER,)) == "sender:a@x", "it counts nobody of this event"


def test_a_case_file_adds_up() -> None:
    page = EntityPage(
        entity="user:alice",
        next=Next(action="accept", reason="no-rule"),
        register=(),
        rules=(),
        reputation=None,
        counts=(),
    )
    lines = [
        line(9, "reject", asn=64500, country="DE", recipients=("x@y", "z@y")),
        line(7, client="192.0.2.8", asn=64500, recipients=("x@y",)),
    ]
    file = case_file(page, None, lines)
    assert (file.first_seen, file.last_seen) == (7.0, 9.0)
    assert file.clients == {"192.0.2.7": 1, "192.0.2.8": 1}
    assert (file.asns, file.countries) == ({"64500": 2}, {"DE": 1})
    assert next(iter(file.recipients.items())) == ("x@y", 2)
    assert file.actions == {"reject": 1, "accept": 1}
    assert any("password" in advice for advice in file.advice)
