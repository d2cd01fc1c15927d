"""A real Postfix with the lines of `deploy/mta/postfix/master.cf` is the next hop: it sees the client, and not us."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from smtp_frontend.listeners import Kind
from smtp_frontend.next_hop.watch import NO_XCLIENT
from smtp_frontend.rehearsal.client import Client, Reply
from smtp_frontend.rehearsal.front_end import front_end
from smtp_frontend.rehearsal.logins import PASSWORD, OnePassword
from tests.certificates_for_tests import make_certificate
from tests.mta.postfix_for_tests import listens, postfix
from tests.servers import free_port, require_binary, wait_until
from tests.smtp.test_submission import CONFIG as SUBMISSION
from tests.smtp.test_submission import encrypted, plain

SNIPPET = Path(__file__).resolve().parents[2] / "deploy" / "mta" / "postfix" / "master.cf"
SERVICE = "127.0.0.1:10025 inet n - y "
OURS, ELSEWHERE = "bob@example.net", "dave@other.example"
DENIED = f"554 5.7.1 <{ELSEWHERE}>: Relay access denied"


class Behind:
    """The Postfix, as its log shows it."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"smtp://127.0.0.1:{port}?xclient=yes"
        self._log = log

    @property
    def lines(self) -> list[str]:
        """What the smtpd behind us has logged."""
        return [line for line in self._log.read_text().splitlines() if "postfix/behind/smtpd[" in line]

    async def logged(self, text: str) -> None:
        """Wait until it has logged a text."""
        await asyncio.to_thread(
            wait_until, lambda: any(text in line for line in self.lines), f"{text!r} in the log", 30
        )


@contextmanager
def _running(changes: dict[str, str]) -> Iterator[Behind]:
    port = free_port()
    with postfix() as server:
        etc = server.log.parent / "etc"
        text = SNIPPET.read_text().replace(SERVICE, f"127.0.0.1:{port} inet n - n ")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new.format(etc=etc))
        (etc / "relay_from").write_text("127.0.0.4/32 OK\n")
        with (etc / "master.cf").open("a") as master:
            master.write(text)
        command = [require_binary("postfix", "postfix"), "-c", str(etc), "reload"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        wait_until(lambda: listens(port), "Postfix listens behind us")
        yield Behind(port, server.log)


@asynccontextmanager
async def behind(**changes: str) -> AsyncIterator[Behind]:
    """A Postfix behind us, with other settings in master.cf where they are given; blocking work is done in threads."""
    lines = {f"-o {name}=": f"-o {name}={value}" for name, value in changes.items()}
    running = _running(lines)
    server = await asyncio.to_thread(running.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def send(client: Client, recipient: str) -> Reply:
    """A message in a new session: what is said to its recipient if that is a refusal, or to it."""
    _, reply = await client.begin(recipient)
    return await client.message() if reply.code == 250 else reply


async def test_its_log_names_the_client() -> None:
    async with behind() as server, front_end(next_hop=server.url) as mx:
        async with mx.client("127.0.0.2") as client:
            assert (await send(client, OURS)).code == 250
        await server.logged(": client=unknown[127.0.0.2]")
        await server.logged("disconnect from unknown[127.0.0.2] ")
        assert not any("client=unknown[127.0.0.1]" in line for line in server.lines)
        assert mx.log.traces == []
        assert not any(NO_XCLIENT in line for line in mx.log.lines)


async def test_a_stranger_may_not_relay_and_is_named_as_who_he_is() -> None:
    async with behind() as server, front_end(next_hop=server.url) as mx:
        async with mx.client("127.0.0.2") as client:
            assert str(await send(client, ELSEWHERE)) == DENIED
        await server.logged(f"reject: RCPT from unknown[127.0.0.2]: {DENIED}; from=<alice@example.com>")
        assert any("helo=<client.example.com>" in line for line in server.lines)


async def test_who_has_logged_in_may_relay(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mx.example.net.pem")
    config = SUBMISSION.format(certificate, certificate.with_suffix(".key"))
    async with behind() as server, front_end(config, next_hop=server.url, verifier=OnePassword()) as mx:
        async with mx.client("127.0.0.3", kind=Kind.SUBMISSION) as client:
            await encrypted(mx, client)
            assert (await client.ask(plain(PASSWORD))).code == 235
            assert [reply.code for reply in await client.transaction(ELSEWHERE)] == [250, 250]
            assert (await client.message()).code == 250
        await server.logged("client=unknown[127.0.0.3], sasl_method=XCLIENT, sasl_username=alice")
        assert mx.log.traces == []


async def test_clients_of_a_proxy_have_the_rights_of_each() -> None:
    """In one session with us a user of a proxy may relay, and a stranger after him may not."""
    config = '[smtp]\nxclient_from = ["127.0.0.1"]\n'
    async with behind() as server, front_end(config, next_hop=server.url) as mx, mx.client() as client:
        await client.greeting()
        for words, code in (("ADDR=192.0.2.7 LOGIN=alice", 250), ("ADDR=IPV6:2001:db8::7", 554), ("LOGIN=carol", 250)):
            assert (await client.ask(f"XCLIENT {words}")).code == 220
            assert (await client.ask("EHLO proxy.example.com")).code == 250
            assert [reply.code for reply in await client.transaction(ELSEWHERE)] == [250, code]
            assert (await client.ask("RSET")).code == 250
        await server.logged("client=unknown[192.0.2.7], sasl_method=XCLIENT, sasl_username=alice")
        await server.logged(f"reject: RCPT from unknown[2001:db8::7]: {DENIED}")
        await server.logged("client=unknown[2001:db8::7], sasl_method=XCLIENT, sasl_username=carol")


async def test_a_name_and_a_login_for_which_one_line_is_too_short() -> None:
    user = "alice." + "a" * 140
    config = '[smtp]\nxclient_from = ["127.0.0.1"]\n'
    async with behind() as server, front_end(config, next_hop=server.url) as mx, mx.client() as client:
        await client.greeting()
        for words in (f"ADDR=192.0.2.7 LOGIN={user}", f"HELO={'h' * 255}"):
            assert (await client.ask(f"XCLIENT {words}")).code == 220
        assert (await client.ask("EHLO proxy.example.com")).code == 250
        assert [reply.code for reply in await client.transaction(ELSEWHERE)] == [250, 250]
        assert (await client.message()).code == 250
        assert (await client.ask("QUIT")).code == 221
        await server.logged(f"client=unknown[192.0.2.7], sasl_method=XCLIENT, sasl_username={user}")
        await server.logged(" xclient=0/2 ")  # two commands, as Postfix counts them


async def test_its_own_restrictions_see_the_client() -> None:
    inline = "check_client_access,inline:{{127.0.0.2=REJECT}}"
    async with behind(smtpd_client_restrictions=inline) as server, front_end(next_hop=server.url) as mx:
        async with mx.client("127.0.0.2") as client:
            assert (await send(client, OURS)).code == 554
        async with mx.client("127.0.0.3") as client:
            assert (await send(client, OURS)).code == 250
        await server.logged("NOQUEUE: reject: RCPT from unknown[127.0.0.2]: 554 5.7.1")


async def test_networks_that_may_relay_without_a_login() -> None:
    restrictions = "check_client_access,cidr:{etc}/relay_from,reject_unauth_destination\n    #"
    async with behind(smtpd_relay_restrictions=restrictions) as server, front_end(next_hop=server.url) as mx:
        for source, code in (("127.0.0.4", 250), ("127.0.0.2", 554)):
            async with mx.client(source) as client:
                assert (await send(client, ELSEWHERE)).code == code


async def test_the_sender_of_a_user_is_held_to_be_his() -> None:
    """reject_sender_login_mismatch, which the comment says works as ever."""
    maps = "-o smtpd_sender_login_maps=inline:{{alice@example.com=alice}}"
    restrictions = f"\n    -o smtpd_sender_restrictions=reject_sender_login_mismatch\n    {maps}"
    config = '[smtp]\nxclient_from = ["127.0.0.1"]\n'
    async with behind(smtpd_client_restrictions=restrictions) as server, front_end(config, next_hop=server.url) as mx:
        for user, code in (("alice", 250), ("carol", 553)):
            async with mx.client() as client:
                await client.greeting()
                assert (await client.ask(f"XCLIENT ADDR=192.0.2.7 LOGIN={user}")).code == 220
                await client.ask("EHLO proxy.example.com")
                assert [reply.code for reply in await client.transaction(ELSEWHERE)] == [250, code]


async def test_if_it_does_not_offer_xclient_mail_flows_and_nobody_relays() -> None:
    async with behind(smtpd_authorized_xclient_hosts="\n    #") as server, front_end(next_hop=server.url) as mx:
        for _ in range(2):
            async with mx.client("127.0.0.2") as client:
                assert (await send(client, OURS)).code == 250
            async with mx.client("127.0.0.2") as client:
                assert str(await send(client, ELSEWHERE)) == DENIED
        assert len([line for line in mx.log.lines if NO_XCLIENT in line]) == 1


async def test_a_client_that_it_turns_away_too_early_is_told_to_come_again_and_nobody_else() -> None:
    early = {
        "smtpd_client_restrictions": "check_client_access,inline:{{127.0.0.2=REJECT}}",
        "smtpd_delay_reject": "no\n    #",
    }
    async with behind(**early) as server, front_end(next_hop=server.url) as mx:
        async with mx.client("127.0.0.2") as client:
            assert (await send(client, OURS)).code == 451
        async with mx.client("127.0.0.3") as client:
            assert (await send(client, OURS)).code == 250
