"""Lines of Exim's main log, written after the chapter "Log files" of its specification."""

from ipaddress import ip_address

import pytest

from reputation.replay.records import (
    Connected,
    Fate,
    Left,
    LoginFailed,
    Record,
    Refused,
    Removed,
    Taken,
    Turned,
    UnreadableLine,
    Went,
)
from tests.unit.replay.logs_for_tests import record, us

AT = us(15, 4, 13)
CLIENT = ip_address("192.0.2.7")
SHORT, LONG = "1tFAbC-000123-AB", "1tFAbC-00000000123-ABCD"
HOST = "H=mail.example.com (helo.example.com) [192.0.2.7]:4711"


def taken(place: str = " 192.0.2.7:4711", id: str = f" {SHORT}", **more: object) -> Taken:
    known: dict[str, object] = {"helo": "helo.example.com", "sender": "a@example.com", "size": 1234}
    return Taken(AT, place, id, CLIENT, **{**known, **more})  # type: ignore[arg-type]  # what a test passes on


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (f"{SHORT} <= a@example.com {HOST} P=esmtp S=1234 id=1@example.com", taken()),
        (f"{LONG} <= a@example.com {HOST} P=esmtp S=1234", taken(id=f" {LONG}")),
        (
            (
                f"{SHORT} <= a@example.com {HOST} P=esmtpsa X=TLS1.3:X:256 CV=no A=plain:alice S=1234 id=1@x "
                "for b@example.net c@example.net"
            ),
            taken(tls=True, user="alice", recipients=("b@example.net", "c@example.net")),
        ),
        (
            (
                f'{SHORT} <= a@example.com {HOST} P=esmtp S=1234 T="P=esmtps A=x:eve for \\"you\\"" from <a@x> '
                "for b@example.net"
            ),
            taken(recipients=("b@example.net",)),
        ),
        (f"{SHORT} <= <> {HOST} P=esmtp S=1234", taken(sender="")),
        (
            f"{SHORT} <= a@example.com H=mail.example.com [192.0.2.7] P=smtp S=1234",
            taken(place=f"  {SHORT}", helo="mail.example.com"),
        ),
        (f"{SHORT} <= a@example.com H=([10.0.0.1]) [192.0.2.7] P=smtp S=1234", taken(f"  {SHORT}", helo="[10.0.0.1]")),
        (
            f"[77] {SHORT} <= a@example.com H=(x) [2001:db8::1] P=esmtps S=1234",
            taken(" 77", helo="x", tls=True)._replace(client=ip_address("2001:db8::1")),
        ),
        (
            f"{SHORT} <= root@example.net U=root P=local S=1234",
            taken(place=f"  {SHORT}", helo="", sender="root@example.net")._replace(client=None),
        ),
        (
            f"{SHORT} => b@example.net R=dnslookup T=remote_smtp H=mx [198.51.100.1]",
            Went(AT, f" {SHORT}", "b@example.net", "b@example.net", Fate.SENT),
        ),
        (f"{SHORT} => bob <b@example.net> R=local T=maildir", Went(AT, f" {SHORT}", "bob", "b@example.net", Fate.SENT)),
        (
            f"{SHORT} -> bob (b@example.net) <team@example.net> R=local T=maildir",
            Went(AT, f" {SHORT}", "bob", "team@example.net", Fate.SENT),
        ),
        (
            f"{SHORT} => :blackhole: <b@example.net> R=x",
            Went(AT, f" {SHORT}", ":blackhole:", "b@example.net", Fate.SENT),
        ),
        (
            f"{SHORT} ** b@example.net: Unrouteable address",
            Went(AT, f" {SHORT}", "b@example.net", "b@example.net", Fate.BOUNCED),
        ),
        (
            f"{SHORT} == b@example.net R=dnslookup T=remote_smtp defer (110): Connection timed out",
            Went(AT, f" {SHORT}", "b@example.net", "b@example.net", Fate.DEFERRED),
        ),
        (f"{SHORT} Completed", Removed(AT, f" {SHORT}")),
        (f"{SHORT} Completed QT=2s", Removed(AT, f" {SHORT}")),
        (
            f"{HOST} F=<a@example.com> rejected RCPT <b@example.net>: Unrouteable address",
            Refused(
                AT,
                " 192.0.2.7:4711",
                "",
                CLIENT,
                Turned.UNKNOWN_RECIPIENT,
                "a@example.com",
                "b@example.net",
                helo="helo.example.com",
            ),
        ),
        (
            "H=(x) [192.0.2.7] X=TLS1.3:X:256 F=<> A=plain:alice rejected RCPT <b@example.net>: relay not permitted",
            Refused(AT, " 192.0.2.7", "", CLIENT, Turned.RECIPIENT, "", "b@example.net", user="alice", helo="x"),
        ),
        (
            "H=(x) [192.0.2.7] F=<a@example.com> temporarily rejected RCPT <b@example.net>: unknown user, or so",
            Refused(AT, " 192.0.2.7", "", CLIENT, Turned.RECIPIENT, "a@example.com", "b@example.net", helo="x"),
        ),
        (
            "H=(x) [192.0.2.7] rejected MAIL <a@example.com>: no",
            Refused(AT, " 192.0.2.7", "", CLIENT, Turned.SENDER, "a@example.com", helo="x"),
        ),
        (
            f"{SHORT} H=(x) [192.0.2.7] F=<a@example.com> rejected after DATA: spam",
            Refused(AT, " 192.0.2.7", "", CLIENT, Turned.MESSAGE, "a@example.com", helo="x"),
        ),
        ("H=(x) [192.0.2.7] rejected EHLO or HELO x: no", None),
        (
            "SMTP connection from [192.0.2.7]:4711 (TCP/IP connection count = 1)",
            Connected(AT, " 192.0.2.7:4711", CLIENT),
        ),
        ("SMTP connection from (x) [192.0.2.7]:4711 closed by QUIT", Left(AT, " 192.0.2.7:4711")),
        (
            "plain authenticator failed for (x) [192.0.2.7]:4711: 535 Incorrect authentication data (set_id=alice)",
            LoginFailed(AT, " 192.0.2.7:4711", CLIENT, "alice"),
        ),
        ("Start queue run: pid=77", None),
        (f"{SHORT} DKIM: d=example.com s=x c=relaxed/relaxed a=rsa-sha256 [verification succeeded]", None),
    ],
)
def test_what_a_line_says(text: str, meant: Record | None) -> None:
    assert record(f"2026-11-24 15:04:13 {text}") == meant


def test_dates_may_have_fractions_and_a_zone() -> None:
    assert record(f"2026-11-24 16:04:13.250 +0100 {SHORT} Completed") == Removed(AT + 250_000, f" {SHORT}")


def test_a_syslog_may_have_the_date_twice() -> None:
    for line in (
        f"Nov 24 15:04:13 mx exim[77]: 2026-11-24 15:04:12 {SHORT} Completed",
        f"Nov 24 15:04:13 mx exim4[77]: {SHORT} Completed",
    ):
        assert record(line) == Removed(AT, f"mx {SHORT}")


def test_a_cut_line_is_unreadable() -> None:
    with pytest.raises(UnreadableLine):
        record(f"2026-11-24 15:04:13 {SHORT} <=  ")
