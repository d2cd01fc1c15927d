"""XCLIENT to the next hop: what is said, to whom, on which connection, and what if it is not wanted."""

import asyncio
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from smtp_frontend.next_hop import Connection, Introduction, MailOptions, Protocol, open_next_hop
from smtp_frontend.next_hop.watch import NO_XCLIENT, XCLIENT_IS_BACK
from smtp_frontend.next_hop.xclient import MAX_LINE_OCTETS, commands
from smtp_frontend.rehearsal.next_hop import CLOSE, HANG, Action, ScriptedHop
from smtp_frontend.reply import Reply
from tests.certificates_for_tests import make_certificate
from tests.smtp.next_hop.conftest import HASTY_SECONDS, HOSTNAME, open_patiently

ALICE, BOB = "alice@example.org", "bob@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"
POSTFIX = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"
READY = "220 hop.example.com ready"
REST = "NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=ESMTP HELO=client.example.com"
CLIENT = Introduction(address=ip_address("192.0.2.7"), helo="client.example.com")
USER = Introduction(address=ip_address("192.0.2.7"), helo="client.example.com", user="alice")
OTHER = Introduction(address=ip_address("192.0.2.8"), helo="client.example.com")


def listening(
    script: Mapping[str, Action] | None = None, *, listed: str = POSTFIX, lmtp: bool = False, more: tuple[str, ...] = ()
) -> ScriptedHop:
    """A server that offers XCLIENT."""
    return ScriptedHop({"XCLIENT": READY, **(script or {})}, lmtp=lmtp, extensions=[f"XCLIENT {listed}", *more])


def url_of(hop: ScriptedHop) -> str:
    return f"{hop.url}?xclient=yes"


async def deliver(connection: Connection, client: Introduction | None = CLIENT) -> Reply:
    """A message for a client; the first answer that is not 2xx, or the last."""
    replies = await connection.begin(ALICE, MailOptions(introduction=client), BOB)
    for reply in replies:
        if not reply.positive:
            return reply
    return await connection.data([HELLO])


# What is said


async def test_the_dialogue() -> None:
    async with listening() as hop:
        connection = open_patiently(url_of(hop)).connect()
        assert (await deliver(connection, USER)).positive
        await connection.close()
        assert hop.sessions[0].commands[:4] == [
            "EHLO mx.example.net",
            f"XCLIENT ADDR=192.0.2.7 LOGIN=alice {REST}",
            "EHLO client.example.com",
            "MAIL FROM:<alice@example.org>",
        ]


async def test_the_dialogue_in_lmtp() -> None:
    async with listening(lmtp=True, listed="ADDR") as hop:
        assert (await deliver(open_patiently(url_of(hop)).connect())).positive
        assert hop.sessions[0].commands[:3] == [
            "LHLO mx.example.net",
            "XCLIENT ADDR=192.0.2.7",
            "LHLO client.example.com",
        ]


@pytest.mark.parametrize(
    ("introduction", "listed", "line"),
    [
        (CLIENT, "ADDR", "ADDR=192.0.2.7"),
        (CLIENT, "addr helo", "ADDR=192.0.2.7 HELO=client.example.com"),
        (Introduction(address=None), "ADDR HELO LOGIN", "ADDR=[UNAVAILABLE] LOGIN=[UNAVAILABLE] HELO=[UNAVAILABLE]"),
        (Introduction(address=ip_address("2001:db8::7")), "ADDR", "ADDR=IPV6:2001:db8::7"),
        (Introduction(address=ip_address("fe80::7%eth0")), "ADDR", "ADDR=IPV6:fe80::7"),
        (Introduction(address=None, protocol=Protocol.SMTP), "PROTO", "PROTO=SMTP"),
        (Introduction(address=None, name="a.example"), "NAME REVERSE_NAME", "NAME=a.example REVERSE_NAME=a.example"),
        (Introduction(address=None, name="not a name"), "NAME", "NAME=[UNAVAILABLE]"),
        (Introduction(address=None, name="192.0.2.7"), "NAME", "NAME=[UNAVAILABLE]"),
        (Introduction(address=None, helo="a\r\nMAIL"), "HELO", "HELO=[UNAVAILABLE]"),
        (Introduction(address=None, user="jörg=a+b c\r\n"), "LOGIN", "LOGIN=j+C3+B6rg+3Da+2Bb+20c+0D+0A"),
    ],
)
def test_what_is_listed_is_told(introduction: Introduction, listed: str, line: str) -> None:
    assert commands(introduction, listed) == [f"XCLIENT {line}".encode()]


@pytest.mark.parametrize("listed", ["", "DESTADDR DESTPORT", "ADDRESS"])
def test_a_server_that_lists_nothing_of_it_is_told_nothing(listed: str) -> None:
    assert commands(CLIENT, listed) == []


def test_what_is_too_long_goes_ahead_of_the_address_and_the_login() -> None:
    name = ".".join(["a" * 60] * 4)
    introduction = Introduction(address=ip_address("2001:db8::7"), helo="h" * 255, user="u" * 100, name=name)
    lines = commands(introduction, POSTFIX)
    assert len(lines) == 3
    assert all(len(line) + 2 <= MAX_LINE_OCTETS for line in lines)
    assert lines[-1].startswith(b"XCLIENT ADDR=IPV6:2001:db8::7 LOGIN=uuu")
    words = [word.split(b"=")[0].decode() for line in lines for word in line.split()[1:]]
    assert sorted(words) == sorted(set(POSTFIX.split()) - {"DESTADDR", "DESTPORT"})


async def test_each_of_several_commands_has_its_answer() -> None:
    long = Introduction(address=ip_address("192.0.2.7"), helo="h" * 255, user="u" * 250)
    async with listening() as hop:
        assert (await deliver(open_patiently(url_of(hop)).connect(), long)).positive
        assert hop.sessions[0].verbs[:5] == ["EHLO", "XCLIENT", "XCLIENT", "EHLO", "MAIL"]


async def test_what_counts_is_what_is_offered_after_it() -> None:
    first = "250-hop.example.com\n250 XCLIENT ADDR"
    second = "250-hop.example.com\n250 8BITMIME"
    async with ScriptedHop({"XCLIENT": READY, "EHLO": [first, second]}) as hop:
        connection = open_patiently(url_of(hop)).connect()
        assert (await connection.mail(ALICE, MailOptions(eight_bit=True, introduction=CLIENT))).positive
        assert hop.sessions[0].commands[-1] == "MAIL FROM:<alice@example.org> BODY=8BITMIME"


async def test_after_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "localhost.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with ScriptedHop({"XCLIENT": READY}, extensions=["XCLIENT ADDR"], tls=tls) as hop:
        assert (await deliver(open_patiently(f"{hop.url}?starttls=may&xclient=yes").connect())).positive
        assert hop.sessions[0].tls
        assert hop.sessions[0].verbs[:6] == ["EHLO", "STARTTLS", "EHLO", "XCLIENT", "EHLO", "MAIL"]


async def test_a_name_that_the_server_finds_no_sense_in_is_not_insisted_on() -> None:
    normal = "250-hop.example.com\n250 XCLIENT ADDR"
    async with ScriptedHop({"XCLIENT": READY, "EHLO": [normal, "501 5.5.2 Bad name", normal]}) as hop:
        assert (await deliver(open_patiently(url_of(hop)).connect())).positive
        assert [line for line in hop.sessions[0].commands if line.startswith("EHLO")] == [
            "EHLO mx.example.net",
            "EHLO client.example.com",
            "EHLO mx.example.net",
        ]


@pytest.mark.parametrize("suffix", ["", "?xclient=no"])
async def test_nothing_is_told_where_it_is_not_wanted(suffix: str) -> None:
    async with listening() as hop:
        connection = open_patiently(hop.url + suffix).connect()
        assert (await deliver(connection)).positive
        assert (await deliver(connection, OTHER)).positive
        assert len(hop.sessions) == 1
        assert "XCLIENT" not in hop.sessions[0].verbs


# On which connection


async def test_transactions_of_the_same_client_share_a_connection() -> None:
    async with listening() as hop:
        connection = open_patiently(url_of(hop)).connect()
        for _ in range(3):
            assert (await deliver(connection)).positive
        assert hop.sessions[0].verbs.count("XCLIENT") == 1
        assert len(hop.sessions) == 1


@pytest.mark.parametrize(("first", "second"), [(CLIENT, USER), (USER, CLIENT), (CLIENT, OTHER), (None, USER)])
async def test_somebody_else_has_a_connection_of_his_own(
    first: Introduction | None, second: Introduction | None
) -> None:
    async with listening(listed="ADDR LOGIN") as hop:
        connection = open_patiently(url_of(hop)).connect()
        for client in (first, second):
            assert (await deliver(connection, client)).positive
        assert [session.verbs.count("MAIL") for session in hop.sessions] == [1, 1]
        assert hop.sessions[0].verbs[-1] == "QUIT"
        for session, client in zip(hop.sessions, (first, second), strict=True):
            told = [line.encode() for line in session.commands if line.startswith("XCLIENT")]
            assert told == (commands(client, "ADDR LOGIN") if client else [])


async def test_a_transaction_that_was_given_up_is_not_taken_along() -> None:
    async with listening(more=("PIPELINING",)) as hop:
        connection = open_patiently(url_of(hop)).connect()
        assert (await connection.begin(ALICE, MailOptions(introduction=USER), BOB))[1].positive
        assert (await connection.mail(ALICE, MailOptions(introduction=CLIENT))).positive
        assert (await connection.data([HELLO])).code == 554
        assert (await deliver(connection, CLIENT)).positive
        assert [session.verbs.count("XCLIENT") for session in hop.sessions] == [1, 1]
        assert hop.messages[0].recipients == (BOB,)


async def test_a_dead_connection_is_replaced_by_one_of_the_same_client() -> None:
    async with listening() as hop:
        connection = open_patiently(url_of(hop)).connect()
        assert (await deliver(connection, USER)).positive
        hop.sessions[0].hang_up()
        await hop.sessions[0].ended.wait()
        assert (await deliver(connection, USER)).positive
        assert [session.verbs.count("XCLIENT") for session in hop.sessions] == [1, 1]
        assert hop.sessions[0].commands[1] == hop.sessions[1].commands[1]


async def test_who_is_cancelled_while_he_is_introduced_leaves_no_connection_behind() -> None:
    async with listening({"XCLIENT": [HANG, READY]}) as hop:
        connection = open_patiently(url_of(hop)).connect()
        task = asyncio.create_task(deliver(connection, USER))
        await hop.until(lambda: bool(hop.sessions) and "XCLIENT" in hop.sessions[0].verbs)
        task.cancel()
        await asyncio.wait({task})
        await hop.sessions[0].ended.wait()
        assert (await deliver(connection, USER)).positive
        assert hop.sessions[1].verbs[:4] == ["EHLO", "XCLIENT", "EHLO", "MAIL"]


# Where it is not wanted, or refused


async def test_without_xclient_mail_flows_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedHop({"XCLIENT": READY}) as hop:
        next_hop = open_patiently(url_of(hop))
        for _ in range(3):
            connection = next_hop.connect()
            assert (await deliver(connection)).positive
            await connection.close()
        assert caplog.messages == [f"{url_of(hop)}: {NO_XCLIENT}"]
        assert "smtpd_authorized_xclient_hosts" in NO_XCLIENT
        hop.extensions = ["XCLIENT ADDR"]
        for _ in range(2):
            assert (await deliver(next_hop.connect())).positive
        assert caplog.messages[1:] == [f"{url_of(hop)}: {XCLIENT_IS_BACK}"]


@pytest.mark.parametrize(
    "script",
    [
        {"XCLIENT": "550 5.7.0 Insufficient authorization"},
        {"XCLIENT": "501 5.5.4 Bad syntax"},
        {"XCLIENT": "421 4.7.0 Too many of yours"},
        {"XCLIENT": "354 Go ahead"},
        {"XCLIENT": b"nonsense\r\n"},
        {"XCLIENT": CLOSE},
        {"XCLIENT": HANG},
        {"EHLO": ["250-hop.example.com\n250 XCLIENT ADDR", "554 5.7.1 Not from you"]},
        {"EHLO": ["250-hop.example.com\n250 XCLIENT ADDR", "501 5.5.2 No", "501 5.5.2 No"]},
    ],
    ids=lambda script: str(next(iter(script.values()))),
)
async def test_a_refusal_is_our_trouble_and_only_this_clients(
    script: Mapping[str, Action], caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(script) as hop:
        # With a pause: a server that was thought to be away would not be asked again at once.
        next_hop = open_next_hop(url_of(hop), hostname=HOSTNAME, timeout_seconds=HASTY_SECONDS, pause_seconds=60)
        reply = await deliver(next_hop.connect())
        assert (reply.code, reply.enhanced, reply.ours) == (451, "4.4.1", True)
        assert "MAIL" not in hop.sessions[0].verbs
        [line] = caplog.messages
        assert line.startswith(f"{url_of(hop)}: ")
        hop.script.pop("EHLO", None)
        hop.script["XCLIENT"] = READY
        assert (await deliver(next_hop.connect(), OTHER)).positive
