"""Lines into steps: what belongs together, in which order, and what is not counted twice."""

from ipaddress import ip_address, ip_network

import pytest

from reputation.events import Auth, Connect, Data, Disconnect, Helo, Mail, Rcpt
from reputation.replay import flow as flow_module
from reputation.replay import steps as steps_module
from reputation.replay.flow import Flow
from reputation.replay.records import Turned
from reputation.replay.steps import HORIZON_SECONDS, Bounced, GivenBack, Judge, LogIn, Message, Over, Step, Timed
from tests.unit.replay.logs_for_tests import PostfixLog, records, steps, us

SHORT = "1tFAbC-000123-AB"


def named(step: Step) -> str:
    match step:
        case Judge(Connect() | Helo() | Disconnect() as event):
            return event.stage
        case Judge(Mail(sender=sender)):
            return f"mail {sender}"
        case Judge(Rcpt(recipient=recipient), _, turned):
            return f"rcpt {recipient}" + (f" {turned}" if turned else "")
        case Judge(Data(recipients=recipients, message_bytes=size)):
            return f"data {len(recipients)} {size}"
        case LogIn(Auth(login=login, success=success)):
            return f"auth {login} {success}"
        case GivenBack():
            return "given back"
        case Bounced():
            return "bounced"
        case Over(message):
            return f"over {'delivered' if message.delivered else 'not delivered'}"
    raise AssertionError(step)


def told(timed: list[Timed]) -> list[str]:
    return [named(each.step) for each in timed]


def events_of(log: PostfixLog) -> list[str]:
    return told(steps(log.lines))


def test_a_message_has_all_stages_once() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", "c@example.net", user="alice")
    found = steps(log.lines)
    assert told(found) == [
        "connect",
        "auth alice True",
        "mail a@example.com",
        "rcpt b@example.net",
        "rcpt c@example.net",
        "data 2 305",
        "disconnect",
        "over delivered",
    ]
    judged = [each.step.event for each in found if isinstance(each.step, Judge)]
    mails = [event for event in judged if isinstance(event, Mail)]
    assert mails[0].session.user == "alice"
    assert mails[0].session.client == ip_address("192.0.2.7")
    assert len({event.session.id for event in judged}) == 1


def test_events_come_in_order_of_time_though_senders_are_known_late() -> None:
    log = PostfixLog()
    slow = log.connect(0)
    log.write(0, f"smtpd[{slow}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
    log.message(5, "fast@example.com", "b@example.net")
    log.write(90, "qmgr[9]", "AAAAA1: from=<slow@example.com>, size=1, nrcpt=1 (queue active)")
    log.write(91, "qmgr[9]", "AAAAA1: removed")
    found = steps(log.lines)
    assert [each.at_us for each in found] == sorted(each.at_us for each in found)
    assert [text for text in told(found) if text.startswith("mail")] == [
        "mail slow@example.com",
        "mail fast@example.com",
    ]


def test_steps_come_as_soon_as_nothing_older_can_come() -> None:
    log = PostfixLog()
    for second in range(0, 100, 2):
        log.message(second, "a@example.com", "b@example.net")
    flow = Flow()
    first = next(flow.steps(records(log.lines)))
    assert first.at_us == us(12)
    assert flow.waiting.latest_us <= us(12, 0, 4)


def test_refusals_before_the_first_recipient_belong_to_the_message() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", unknown=["x@example.net", "y@example.net"])
    found = events_of(log)
    assert [text for text in found if text.startswith(("mail", "rcpt", "data"))] == [
        "mail a@example.com",
        "rcpt x@example.net unknown-recipient",
        "rcpt y@example.net unknown-recipient",
        "rcpt b@example.net",
        "data 1 305",
    ]
    assert found.count("over delivered") == 1


def test_a_transaction_without_any_recipient_comes_to_nothing() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.refuse(0, pid, "a@example.com", "x@example.net")
    log.refuse(1, pid, "a@example.com", "y@example.net")
    log.refuse(2, pid, "other@example.com", "y@example.net")
    log.disconnect(3, pid)
    assert events_of(log) == [
        "connect",
        "mail a@example.com",
        "rcpt x@example.net unknown-recipient",
        "rcpt y@example.net unknown-recipient",
        "given back",
        "over not delivered",
        "mail other@example.com",
        "rcpt y@example.net unknown-recipient",
        "given back",
        "over not delivered",
        "disconnect",
    ]


def test_refusals_of_another_sender_are_a_message_of_their_own() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.refuse(0, pid, "first@example.com", "x@example.net")
    log.message(1, "a@example.com", "b@example.net", pid=pid)
    found = events_of(log)
    assert [text for text in found if text.startswith("mail")] == ["mail first@example.com", "mail a@example.com"]
    assert found.count("given back") == 1


def test_what_a_milter_refuses_is_given_back() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.write(0, f"smtpd[{pid}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
    envelope = "from=<a@example.com> to=<b@example.net> proto=ESMTP helo=<x>"
    log.write(1, "cleanup[9]", f"AAAAA1: milter-reject: END-OF-MESSAGE from x[192.0.2.7]: 5.7.1 no; {envelope}")
    assert events_of(log) == ["connect", "mail a@example.com", "given back", "over not delivered", "disconnect"]


def test_a_message_that_the_client_gave_up_has_no_sender_and_is_counted() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.write(0, f"smtpd[{pid}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
    log.disconnect(1, pid)
    flow = Flow()
    assert told(list(flow.steps(records(log.lines)))) == ["connect", "disconnect"]
    assert flow.waiting.without_sender == 1


def test_an_id_may_be_used_again() -> None:
    log = PostfixLog()
    for second in (0, 100):
        pid = log.connect(second)
        log.write(second, f"smtpd[{pid}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
        log.write(second, "qmgr[9]", f"AAAAA1: from=<a{second}@example.com>, size=1, nrcpt=1 (queue active)")
    found = events_of(log)
    assert [text for text in found if text.startswith("mail")] == ["mail a0@example.com", "mail a100@example.com"]
    assert found.count("over not delivered") == 2


def test_several_addresses_of_one_recipient_are_one() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.write(0, f"smtpd[{pid}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
    log.write(0, "qmgr[9]", "AAAAA1: from=<a@example.com>, size=1, nrcpt=3 (queue active)")
    for address in ("to=<b@example.net>, orig_to=<team@example.net>", "to=<c@example.net>, orig_to=<team@example.net>"):
        log.write(1, "virtual[9]", f"AAAAA1: {address}, relay=virtual, delay=1, dsn=2.0.0, status=sent (ok)")
    log.write(1, "virtual[9]", "AAAAA1: to=<b@example.net>, relay=virtual, delay=1, dsn=2.0.0, status=sent (ok)")
    found = events_of(log)
    assert [text for text in found if text.startswith("rcpt")] == ["rcpt team@example.net", "rcpt b@example.net"]


def test_bounces_are_told_once_for_each_address() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", "c@example.net", status="bounced")
    found = events_of(log)
    assert found.count("bounced") == 2
    assert "over not delivered" in found


def test_a_bounce_of_the_same_second_comes_after_the_message() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.write(0, f"smtpd[{pid}]", "AAAAA1: client=mail.example.com[192.0.2.7]")
    log.write(0, "qmgr[9]", "AAAAA1: from=<a@example.com>, size=1, nrcpt=1 (queue active)")
    log.write(0, "smtp[9]", "AAAAA1: to=<b@example.net>, relay=x[1.2.3.4]:25, delay=1, dsn=5.1.1, status=bounced (no)")
    log.write(0, "qmgr[9]", "AAAAA1: removed")
    assert events_of(log) == [
        "connect",
        "mail a@example.com",
        "rcpt b@example.net",
        "data 1 1",
        "bounced",
        "over not delivered",
        "disconnect",
    ]


def test_what_expires_is_a_bounce() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", status="deferred")
    log.write(432_000, "qmgr[9]", f"{0x4F1A2B1:X}: from=<a@example.com>, status=expired, returned to sender")
    log.write(432_001, "qmgr[9]", f"{0x4F1A2B1:X}: removed")
    found = events_of(log)
    assert found.count("bounced") == 1
    assert found[-1] == "over not delivered"


def test_what_is_delivered_after_hours_is_delivered() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", status="deferred")
    log.message(4 * HORIZON_SECONDS, "other@example.com", "b@example.net")
    text = "to=<b@example.net>, relay=x[198.51.100.1]:25, delay=1, dsn=2.0.0, status=sent (ok)"
    log.write(5 * HORIZON_SECONDS, "smtp[8]", f"{0x4F1A2B1:X}: {text}")
    log.write(5 * HORIZON_SECONDS, "qmgr[9]", f"{0x4F1A2B1:X}: removed")
    found = steps(log.lines)
    assert [text for text in told(found) if text.startswith("over")] == ["over delivered", "over delivered"]
    assert told(found)[-1] == "over delivered"
    assert told(found).count("rcpt b@example.net") == 2


def test_mail_that_a_content_filter_gives_back_is_not_counted_twice() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net")
    back = "BBBBB1: client=localhost[127.0.0.1]"
    log.write(1, "smtpd[99]", "connect from localhost[127.0.0.1]")
    log.write(1, "smtpd[99]", back)
    log.write(1, "qmgr[9]", "BBBBB1: from=<a@example.com>, size=1, nrcpt=1 (queue active)")
    flow = Flow()
    found = told(list(flow.steps(records(log.lines))))
    assert [text for text in found if text.startswith(("connect", "mail"))] == ["connect", "mail a@example.com"]
    assert flow.passed_over == 1
    assert told(steps(log.lines, skip=())).count("mail a@example.com") == 2


def test_what_becomes_of_it_behind_the_filter_goes_to_the_first_account() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", status="deferred")
    first = f"{0x4F1A2B1:X}"
    log.write(1, "smtpd[99]", f"BBBBB1: client=localhost[127.0.0.1], orig_queue_id={first}, orig_client=x[192.0.2.7]")
    log.write(2, "smtp[8]", "BBBBB1: to=<b@example.net>, relay=x[1.2.3.4]:25, delay=1, dsn=2.0.0, status=sent (ok)")
    log.write(2, "qmgr[9]", "BBBBB1: removed")
    log.write(3, "qmgr[9]", f"{first}: removed")
    found = events_of(log)
    assert [text for text in found if text.startswith(("mail", "over"))] == ["mail a@example.com", "over delivered"]


def test_a_filter_before_the_queue_speaks_for_its_client() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    log.write(0, f"smtpd[{pid}]", "NOQUEUE: client=mail.example.com[192.0.2.7]")
    log.write(0, "smtpd[99]", "connect from localhost[127.0.0.1]")
    log.write(0, "smtpd[99]", "BBBBB1: client=localhost[127.0.0.1], orig_client=mail.example.com[192.0.2.7]")
    log.write(0, "qmgr[9]", "BBBBB1: from=<a@example.com>, size=1, nrcpt=1 (queue active)")
    found = steps(log.lines)
    assert told(found).count("connect") == 1
    mails = [each.step.event for each in found if isinstance(each.step, Judge) and isinstance(each.step.event, Mail)]
    assert [str(event.session.client) for event in mails] == ["192.0.2.7"]


def test_a_webmail_of_this_machine_counts_because_somebody_has_logged_in() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", client="127.0.0.1", user="alice")
    assert "mail a@example.com" in events_of(log)


def test_other_networks_can_be_skipped() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net", client="10.0.0.1")
    assert told(steps(log.lines, skip=(ip_network("10.0.0.0/8"),))) == []


def test_a_proxy_that_speaks_for_clients_begins_sessions_of_theirs() -> None:
    log = PostfixLog()
    log.write(0, "smtpd[7]", "connect from unknown[127.0.0.1]")
    log.message(0, "a@example.com", "b@example.net", client="192.0.2.7", pid=7)
    log.message(1, "a@example.com", "b@example.net", client="192.0.2.8", pid=7)
    log.disconnect(2, 7)
    found = steps(log.lines)
    clients = [
        str(it.step.event.session.client) for it in found if named(it.step) == "connect" and isinstance(it.step, Judge)
    ]
    assert clients == ["192.0.2.7", "192.0.2.8"]


def test_who_has_no_address_is_counted_as_passed_over() -> None:
    log = PostfixLog()
    log.write(0, "smtpd[7]", "connect from unknown[unknown]")
    log.write(0, "smtpd[7]", "AAAAA1: client=unknown[unknown]")
    log.write(0, "smtpd[7]", "disconnect from unknown[unknown]")
    flow = Flow()
    assert list(flow.steps(records(log.lines))) == []
    assert flow.passed_over == 1


def test_failed_log_ins_are_tried_ones() -> None:
    log = PostfixLog()
    pid = log.connect(0)
    failed = "SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username=alice"
    log.write(0, f"smtpd[{pid}]", f"warning: mail.example.com[192.0.2.7]: {failed}")
    assert events_of(log) == ["connect", "auth alice False", "disconnect"]


def test_too_much_that_waits_is_judged_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "MAX_WAITING", 3)
    monkeypatch.setattr(flow_module, "MAX_MESSAGES", 3)
    monkeypatch.setattr(flow_module, "MAX_SESSIONS", 3)
    log = PostfixLog()
    for number in range(10):
        log.connect(0)
        log.write(0, f"smtpd[{101 + number}]", f"AAAAA{number}: client=mail.example.com[192.0.2.7]")
        log.write(0, "qmgr[9]", f"AAAAA{number}: from=<a{number}@example.com>, size=1, nrcpt=1 (queue active)")
    flow = Flow()
    found = told(list(flow.steps(records(log.lines))))
    assert sum(text.startswith("mail") for text in found) == sum(text.startswith("over") for text in found) == 10
    assert found.count("connect") == found.count("disconnect") == 10


def exim(*texts: str, second: int = 0) -> list[str]:
    return [f"2026-11-24 12:00:{second + number:02} {text}" for number, text in enumerate(texts)]


def test_a_message_of_exim_is_known_from_its_first_line() -> None:
    host = "H=mail.example.com (helo.example) [192.0.2.7]:4711"
    lines = exim(
        f"{SHORT} <= a@example.com {host} P=esmtpsa A=plain:alice S=77 for b@example.net c@example.net",
        f"{SHORT} => b@example.net R=x T=y",
        f"{SHORT} ** c@example.net R=x T=y: 550 unknown",
        f"{SHORT} Completed",
    )
    assert told(steps(lines)) == [
        "helo",
        "auth alice True",
        "mail a@example.com",
        "rcpt b@example.net",
        "rcpt c@example.net",
        "data 2 77",
        "bounced",
        "over delivered",
    ]


def test_recipients_of_exim_come_from_deliveries_where_the_log_does_not_list_them() -> None:
    lines = exim(
        f"{SHORT} <= a@example.com H=(x) [192.0.2.7] P=smtp S=77",
        f"{SHORT} => bob <b@example.net> R=x T=y",
        f"{SHORT} -> carol <team@example.net> R=x T=y",
        f"{SHORT} -> dave <team@example.net> R=x T=y",
        f"{SHORT} Completed",
    )
    found = told(steps(lines))
    assert [text for text in found if text.startswith(("rcpt", "data"))] == [
        "rcpt b@example.net",
        "rcpt team@example.net",
        "data 2 77",
    ]


def test_connections_of_exim_where_it_logs_them() -> None:
    lines = exim(
        "SMTP connection from [192.0.2.7]:4711 (TCP/IP connection count = 1)",
        f"{SHORT} <= a@example.com H=(x) [192.0.2.7]:4711 P=smtp S=77",
        "H=(x) [192.0.2.7]:4711 F=<a@example.com> rejected RCPT <y@example.net>: Unrouteable address",
        "SMTP connection from (x) [192.0.2.7]:4711 closed by QUIT",
        f"{SHORT} Completed",
    )
    found = steps(lines)
    assert told(found)[0] == "connect"
    assert told(found).count("disconnect") == 1
    assert f"rcpt y@example.net {Turned.UNKNOWN_RECIPIENT}" in told(found)
    sessions = {it.step.event.session.id for it in found if isinstance(it.step, Judge)}
    assert len(sessions) == 1


OURS = "2026-11-24T12:00:{:06.3f} INFO reputon.maillog {}"
WHO = "client=192.0.2.1 session=s1"


def ours(*texts: str) -> list[str]:
    return [OURS.format(number / 10, text) for number, text in enumerate(texts)]


def test_a_session_of_our_own_log() -> None:
    lines = ours(
        f"verdict stage=mail action=accept reason=no-rule from=<a@example.com> {WHO}",
        f"verdict stage=rcpt action=accept reason=no-rule from=<a@example.com> to=<b@example.net> {WHO}",
        f"verdict stage=rcpt action=tempfail reason=over-limit from=<a@example.com> to=<c@example.net> {WHO}",
        f"verdict stage=data action=accept reason=no-rule from=<a@example.com> nrcpt=1 size=77 {WHO}",
        "message result=delivered id=s1.1 from=<a@example.com> nrcpt=1 session=s1",
        f"verdict stage=mail action=accept reason=no-rule from=<a@example.com> {WHO}",
        f"verdict stage=mail action=reject reason=over-limit from=<x@example.com> {WHO}",
    )
    assert told(steps(lines)) == [
        "connect",
        "mail a@example.com",
        "rcpt b@example.net",
        "rcpt c@example.net",
        "data 2 77",
        "over delivered",
        "mail a@example.com",
        "given back",
        "over not delivered",
        "mail x@example.com",
        "over not delivered",
    ]


@pytest.mark.parametrize(
    ("result", "verdict", "given_back"),
    [
        ("delivered", "accept", False),
        ("discarded", "accept", False),
        ("not-delivered", "accept", True),
        ("refused", "accept", True),
        ("refused", "reject", False),
    ],
)
def test_what_our_next_hop_refused_is_given_back_but_not_what_our_policy_did(
    result: str, verdict: str, *, given_back: bool
) -> None:
    lines = ours(
        f"verdict stage=mail action=accept reason=no-rule from=<a@example.com> {WHO}",
        f"verdict stage=data action={verdict} reason=no-rule from=<a@example.com> nrcpt=1 size=77 {WHO}",
        f"message result={result} id=s1.1 from=<a@example.com> nrcpt=1 session=s1",
    )
    assert ("given back" in told(steps(lines))) is given_back


def test_messages_are_told_apart_by_who_they_are() -> None:
    log = PostfixLog()
    log.message(0, "a@example.com", "b@example.net")
    log.message(0, "a@example.com", "b@example.net")
    messages = {each.step.message for each in steps(log.lines) if isinstance(each.step, Over)}
    assert len(messages) == 2
    assert all(isinstance(message, Message) for message in messages)
