"""Replies in our own words: complete, legal, and 4xx wherever the fault is ours."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.rule_settings import check_reply
from reputation.verdict import DENYING, Action, Reason, Verdict
from smtp_frontend import answers
from smtp_frontend.answers import CODES, names_unknown_recipient, refusal
from smtp_frontend.reply import Reply

STAGES = [stage for stage in Stage if stage is not Stage.DISCONNECT]
REFUSING = [Action.THROTTLE, Action.TEMPFAIL, Action.REJECT]
OURS = {name: value for name, value in vars(answers).items() if isinstance(value, Reply)}


def verdict(action: Action, reply: str = "", reason: Reason = Reason.OVER_LIMIT) -> Verdict:
    return Verdict(action=action, reason=reason, rule="r", reply=reply)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_a_temporary_and_a_permanent_code(stage: Stage) -> None:
    assert CODES[stage].keys() == {Action.TEMPFAIL, Action.REJECT}
    for action, digit in ((Action.TEMPFAIL, 4), (Action.REJECT, 5)):
        code, enhanced = CODES[stage][action]
        assert code // 100 == int(enhanced[0]) == digit


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("stage", STAGES)
def test_each_verdict_has_its_reply(stage: Stage, action: Action) -> None:
    reply = refusal(stage, verdict(action))
    if action not in REFUSING:
        assert reply is None
    else:
        assert reply is not None
        code, enhanced = CODES[stage][Action.REJECT if action is Action.REJECT else Action.TEMPFAIL]
        assert (reply.code, reply.enhanced, reply.text) == (code, enhanced, "Refused by policy")


def test_what_is_denied_is_refused_or_dropped() -> None:
    assert set(REFUSING) | {Action.DISCARD} == DENYING


@pytest.mark.parametrize(
    ("action", "text", "wire"),
    [
        (Action.REJECT, "550 5.1.1 User unknown", "550 5.1.1 User unknown"),
        (Action.REJECT, "5.1.1 User unknown", "550 5.1.1 User unknown"),
        (Action.REJECT, "554 No", "554 5.7.1 No"),
        (Action.REJECT, "554", "554 5.7.1 Refused by policy"),
        (Action.REJECT, "No", "550 5.7.1 No"),
        (Action.TEMPFAIL, "421 4.7.0 Later", "421 4.7.0 Later"),
        (Action.THROTTLE, "452 4.5.3 Later", "452 4.5.3 Later"),
        (Action.TEMPFAIL, "sender:ä\r\n250 OK", "451 4.7.1 sender:\\xe4??250 OK"),
        # A number that was filled in is no code: 250 to a mail that is refused would lose it.
        (Action.TEMPFAIL, "250 messages are too many", "451 4.7.1 250 messages are too many"),
        (Action.TEMPFAIL, "550 messages are too many", "451 4.7.1 550 messages are too many"),
        (Action.REJECT, "999 messages are too many", "550 5.7.1 999 messages are too many"),
        (Action.TEMPFAIL, "1000 messages are too many", "451 4.7.1 1000 messages are too many"),
    ],
)
def test_a_rule_may_bring_its_own_code(action: Action, text: str, wire: str) -> None:
    assert str(refusal(Stage.MAIL, verdict(action, text))) == wire


WORDS = ["{count}", "450", "550", "4.7.1", "5.7.1", "No", " ", "  ", "\r\n", "\u00e9"]


@given(
    st.sampled_from(STAGES),
    st.sampled_from(REFUSING),
    st.sampled_from(Reason),
    st.lists(st.sampled_from(WORDS), max_size=6).map("".join) | st.text(),
    st.integers(0, 1_000),
)
@example(Stage.MAIL, Action.TEMPFAIL, Reason.OVER_LIMIT, "{count} 5.7.1 No", 450)
@example(Stage.MAIL, Action.REJECT, Reason.OVER_LIMIT, "{count} 4.7.1 No", 550)
def test_pitfall_23_whatever_a_rule_says_a_soft_refusal_stays_soft(
    stage: Stage, action: Action, reason: Reason, text: str, count: int
) -> None:
    """In both of its codes, and with any number in the place of a count."""
    assume(action is not Action.REJECT or reason is not Reason.STORE_UNAVAILABLE)  # our trouble rejects nobody
    try:
        check_reply(text, action)
    except ConfigError:
        assume(False)
    reply = refusal(stage, verdict(action, text.replace("{count}", str(count)), reason))
    assert reply is not None
    wanted = "5" if action is Action.REJECT else "4"
    assert (str(reply.code)[0], reply.enhanced[0]) == (wanted, wanted)


@pytest.mark.parametrize("stage", STAGES)
def test_a_store_that_is_away_is_told_in_fixed_words(stage: Stage) -> None:
    reply = refusal(stage, verdict(Action.TEMPFAIL, "a secret", Reason.STORE_UNAVAILABLE))
    assert reply is not None
    assert reply.ours
    assert (reply.code // 100, reply.enhanced, reply.text) == (4, "4.3.0", answers.OUR_TROUBLE.text)


@pytest.mark.parametrize("name", OURS)
def test_each_reply_of_ours_is_legal(name: str) -> None:
    reply = OURS[name]
    (line,) = reply.lines()
    assert len(line) <= 512
    assert reply.enhanced or reply.code == 354


def test_what_goes_wrong_on_our_side_is_4xx() -> None:
    ours = {name for name, reply in OURS.items() if reply.ours}
    busy = {"CLIENT_GONE", "CLOSING", "TOO_MANY_SESSIONS", "TOO_MANY_OF_YOURS", "UNSPOOLED"}
    assert ours == {"OUR_TROUBLE", "TROUBLE_AT_CONNECT", *busy}
    assert all(OURS[name].temporary for name in ours)


@pytest.mark.parametrize(
    ("reply", "unknown"),
    [
        (Reply(550, "No such user", "5.1.1"), True),
        (Reply(550, "Moved", "5.1.6"), True),
        (Reply(556, "Null MX", "5.1.10"), True),
        (Reply(550, "No"), True),
        (Reply(551, "No"), True),
        (Reply(553, "No"), True),
        (Reply(552, "Full", "5.2.2"), False),
        (Reply(550, "Spam", "5.7.1"), False),
        (Reply(550, "Bad address", "5.1.3"), False),
        (Reply(554, "No"), False),
        (Reply(450, "Later", "4.1.1"), False),
        (Reply(250, "OK"), False),
        (Reply(550, "Our own words", "5.1.1", ours=True), False),
    ],
)
def test_which_answers_name_an_unknown_recipient(reply: Reply, unknown: bool) -> None:
    assert names_unknown_recipient(reply) is unknown
