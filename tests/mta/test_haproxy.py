"""A real HAProxy before the real front end: whose connection it is, and who is believed.

HAProxy connects from 127.0.0.1; clients connect to it, or to the front end, from other addresses of loopback.
"""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reputation.keys import Metric
from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS, until
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from smtp_frontend.session import Session
from tests.certificates_for_tests import make_certificate
from tests.mta.haproxy_for_tests import GLOBAL, SNIPPET, HaProxy, haproxy
from tests.proxy_headers import TLS, tcp4, value, version_2
from tests.servers import free_port, require_binary

BALANCER, CLIENT, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
VERSIONS = {"v1": "send-proxy", "v2": "send-proxy-v2", "v2-checksum": "send-proxy-v2 proxy-v2-options crc32c,unique-id"}
BELIEVED = """
[smtp]
proxy_from = ["127.0.0.1"]
"""
RULES = """
[[rule]]
name = "connections"
stage = "connect"
key = ["ip"]
count = "connections"
limits = ["3/1h"]
action = "reject"
"""


@asynccontextmanager
async def through(balancer: HaProxy, source: str = CLIENT, frontend: str = "smtp") -> AsyncIterator[Client]:
    """A client that connects to the load balancer from an address."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        client = Client(
            *await asyncio.open_connection(BALANCER, balancer.ports[frontend], local_addr=(source, 0)),
        )
    try:
        yield client
    finally:
        await client.hang_up()


async def connections(mx: FrontEnd, address: str) -> int:
    return await mx.counted(f"ip:{address}", Metric.CONNECTIONS)


def spoken(version: str, text: str) -> str:
    return text.replace("send-proxy-v2", VERSIONS[version])


def unchecked(text: str) -> str:
    """The snippet without health checks."""
    return re.sub(r" (?:check|track \S+)$", "", text, flags=re.MULTILINE)


# The snippet


def test_haproxy_has_nothing_to_say_against_the_snippet(tmp_path: Path) -> None:
    before = tmp_path / "haproxy.cfg"
    before.write_text(GLOBAL.format(directory=tmp_path))
    command = [require_binary("haproxy", "haproxy"), "-c", "-f", str(before), "-f", str(SNIPPET)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_proposed_in_the_snippets_comments_can_be_loaded(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mx.example.net.pem")
    text = ending_tls(SNIPPET.read_text(), certificate)
    assert "ssl crt" in text
    (tmp_path / "haproxy.cfg").write_text(GLOBAL.format(directory=tmp_path) + text)
    command = [require_binary("haproxy", "haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def ending_tls(text: str, certificate: Path) -> str:
    """The snippet with what its last comment proposes in place of what is there, with a certificate of its own."""
    text, _, proposed = text.partition("# If TLS has to end in HAProxy")
    for kind in ("frontend", "backend"):
        text = re.sub(rf"^{kind} submissions .*?(?=^\w|^#|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    code = "\n".join(line[6:] for line in proposed.splitlines() if line.startswith("#     "))
    both = certificate.with_name("both.pem")
    both.write_text(certificate.read_text() + certificate.with_suffix(".key").read_text())
    return text + code.replace("/etc/haproxy/mx.example.net.pem", str(both)) + "\n"


# Whose connection it is


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_client_is_counted_and_not_the_load_balancer(version: str) -> None:
    async with ScriptedHop() as hop, front_end(BELIEVED, next_hop=hop.url) as mx:
        with haproxy({"smtp": mx.port}, lambda text: spoken(version, unchecked(text))) as balancer:
            async with through(balancer) as client:
                await client.begin("bob@example.net")
                await client.ask("DATA")
                assert (await client.ask("Subject: x\r\n\r\nx\r\n.")).code == 250
            await mx.nobody_left()
        assert await connections(mx, CLIENT) == 1
        assert await mx.counted(f"ip:{CLIENT}") == 1
        assert await connections(mx, BALANCER) == 0
        assert await mx.counted(f"ip:{BALANCER}") == 0
        (message,) = hop.messages
        assert f"[{CLIENT}]".encode() in message.content
        assert not [line for line in mx.log.lines if line.startswith("message") and CLIENT not in line]
    assert not mx.log.traces


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_client_may_come_by_ipv6_where_the_load_balancer_does_not(version: str) -> None:
    port = free_port()
    async with front_end(BELIEVED) as mx:
        changed = unchecked(SNIPPET.read_text()).replace("bind :25", f"bind [::1]:{port}")
        with haproxy({"smtp": mx.port}, lambda _: spoken(version, changed)):
            async with asyncio.timeout(PATIENCE_SECONDS):
                client = Client(*await asyncio.open_connection("::1", port))
            assert (await client.greeting()).code == 220
            await client.hang_up()
            await mx.nobody_left()
        assert await connections(mx, "::1") == 1
        assert await connections(mx, BALANCER) == 0
    assert not mx.log.traces


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_limit_is_for_each_client(version: str) -> None:
    async with front_end(BELIEVED + RULES) as mx:
        with haproxy({"smtp": mx.port}, lambda text: spoken(version, unchecked(text))) as balancer:
            codes: dict[str, list[int]] = {}
            for source in (CLIENT, OTHER):
                codes[source] = []
                for _ in range(4 if source == CLIENT else 3):
                    async with through(balancer, source) as client:
                        codes[source].append((await client.greeting()).code)
            assert codes == {CLIENT: [220, 220, 220, 554], OTHER: [220, 220, 220]}
        await mx.nobody_left()
    assert not mx.log.traces


async def test_clients_of_a_load_balancer_have_a_bound_each_and_it_has_none() -> None:
    async with front_end('[smtp]\nmax_sessions_per_ip = 2\nproxy_from = ["127.0.0.1"]') as mx:
        with haproxy({"smtp": mx.port}) as balancer:
            async with (
                through(balancer, CLIENT) as one,
                through(balancer, CLIENT) as two,
                through(balancer, CLIENT) as three,
                through(balancer, OTHER) as other,
            ):
                assert sorted([(await each.greeting()).code for each in (one, two, three)]) == [220, 220, 421]
                assert (await other.greeting()).code == 220
    assert not mx.log.traces


# Who is believed


async def test_a_connection_of_the_load_balancer_without_a_header_is_closed_and_logged() -> None:
    async with front_end(BELIEVED + RULES) as mx:
        for octets in (b"EHLO client.example\r\n", b"QUIT\r\n", b"\r\nQUIT\r\n", version_2(0x21, 0x11, b"short")):
            async with mx.client(BALANCER) as client:
                await client.send(octets)
                assert await client.line() == "", "neither a greeting nor an answer"
        assert len([line for line in mx.log.lines if "has no PROXY header" in line and BALANCER in line]) == 4
        assert not mx.server.sessions
        assert await connections(mx, BALANCER) == 0
    assert not mx.log.traces


async def test_a_load_balancer_that_hangs_up_before_its_header_is_over_is_no_trouble() -> None:
    async with front_end(BELIEVED) as mx:
        header = tcp4(CLIENT)
        for size in (0, 1, 14, len(header) - 1):
            async with mx.client(BALANCER) as client:
                await client.send(header[:size])
                client.writer.write_eof()
                assert await client.line() == ""
        async with mx.client(BALANCER) as client:
            await client.send(header)
            assert (await client.greeting()).code == 220
    assert not mx.log.traces


async def test_a_load_balancer_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp_frontend.server.HEADER_SECONDS", 0.05)
    async with front_end(BELIEVED) as mx, mx.client(BALANCER) as client:
        await client.send(b"PROXY TCP4 ")
        assert await client.line() == ""
        assert [line for line in mx.log.lines if "nothing came in 0.05 s" in line]
    assert not mx.log.traces


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.25 56324 25\r\n",
        b"PROXY UNKNOWN\r\n",
        tcp4("192.0.2.7"),
        tcp4("192.0.2.7", values=TLS),
        version_2(0x20, 0, b""),
    ],
    ids=["v1", "v1-unknown", "v2", "v2-tls", "v2-local"],
)
async def test_a_header_of_anybody_else_is_garbage(header: bytes) -> None:
    async with front_end(BELIEVED) as mx:
        async with mx.client(OTHER) as client:
            assert (await client.greeting()).code == 220
            await client.send(header)
            assert (await client.reply()).code >= 500
        await mx.nobody_left()
        assert await connections(mx, OTHER) == 1
        assert await connections(mx, "192.0.2.7") == 0
    assert not mx.log.traces


async def test_a_header_is_believed_once() -> None:
    """A client cannot send one of its own through the load balancer."""
    async with front_end(BELIEVED) as mx:
        with haproxy({"smtp": mx.port}) as balancer:
            async with through(balancer) as client:
                await client.send(b"PROXY TCP4 192.0.2.7 198.51.100.25 56324 25\r\n")
                assert (await client.greeting()).code == 220
                assert (await client.reply()).code == 500
            await mx.nobody_left()
        assert await connections(mx, CLIENT) == 1
        assert await connections(mx, "192.0.2.7") == 0
    assert not mx.log.traces


async def test_what_follows_a_header_is_the_clients() -> None:
    """In one packet, whatever came before it in the header."""
    async with front_end(BELIEVED) as mx:
        for header in (tcp4(CLIENT, values=value(0x04, bytes(3_000))), b"PROXY TCP4 127.0.0.2 127.0.0.1 1 25\r\n"):
            async with mx.client(BALANCER) as client:
                await client.send(header + b"NOOP\r\n")
                assert [(await client.reply()).code for _ in range(2)] == [220, 250]
        await mx.nobody_left()
        assert await connections(mx, CLIENT) == 2
    assert not mx.log.traces


# Health checks


class Tallied(set[Session]):
    """The sessions of a server, and how many there were."""

    total = 0

    def add(self, session: Session) -> None:
        self.total += 1
        super().add(session)


@pytest.mark.parametrize("version", VERSIONS)
async def test_health_checks_do_not_count_and_are_not_logged(version: str) -> None:
    """Version 2 says LOCAL. Version 1 has no such word: HAProxy names itself as the client."""
    slow = BELIEVED + "greeting_delay_seconds = 60.0\n"
    async with front_end(slow + RULES) as mx:
        sessions = mx.server.sessions = Tallied()
        with haproxy({"smtp": mx.port}, lambda text: spoken(version, text)) as balancer:
            await until(lambda: sessions.total >= 10, "more checks than connections are allowed")
            await until(lambda: balancer.health("smtp") == ("UP", "L7OK"), "the server is found to be up")
            assert balancer.health("submission")[0].startswith("UP"), "it follows the check of port 25"
        await mx.nobody_left()
        assert await connections(mx, BALANCER) == 0
        assert [r.getMessage() for r in mx.log.records if r.levelname != "DEBUG"] == []
        assert mx.metric("reputon_rule_over_total", rule="connections", mode="enforce") == 0
    assert not mx.log.traces


async def test_a_server_that_is_being_stopped_gets_no_more_clients() -> None:
    async with front_end(BELIEVED) as mx:
        with haproxy({"smtp": mx.port}) as balancer:
            await until(lambda: balancer.health("smtp") == ("UP", "L7OK"), "the server is found to be up")
            mx.server.draining = True
            await until(lambda: balancer.health("smtp") == ("DOWN", "L7STS"), "the server is found to be stopping")
            assert balancer.health("submissions")[0].startswith("DOWN")
            mx.server.draining = False
            await until(lambda: balancer.health("smtp") == ("UP", "L7OK"), "the server is found to be up again")
    assert not mx.log.traces


# TLS


def with_tls(certificate: Path, logins: Path) -> str:
    logins.write_text("")
    return f"""
[smtp]
proxy_from = ["127.0.0.1"]
listen_submission = ["127.0.0.1:0"]
listen_submissions = ["127.0.0.1:0"]
[smtp.tls]
certificate = "{certificate}"
key = "{certificate.with_suffix(".key")}"
[smtp.auth]
url = "passwd:{logins}"
"""


async def test_tls_goes_through_to_the_front_end(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mx.example.net.pem")
    async with front_end(with_tls(certificate, tmp_path / "logins")) as mx:
        servers = {"smtp": mx.port, "submission": mx.ports[Kind.SUBMISSION], "submissions": mx.ports[Kind.SUBMISSIONS]}
        with haproxy(servers) as balancer:
            async with through(balancer, frontend="submission") as client:
                await client.greeting()
                assert "STARTTLS" in str(await client.ask("EHLO client.example"))
                assert (await client.ask("STARTTLS")).code == 220
                await client.start_tls()
                assert "STARTTLS" not in str(await client.ask("EHLO client.example"))
            async with through(balancer, OTHER, frontend="submissions") as client:
                await client.start_tls()
                await client.greeting()
                assert "STARTTLS" not in str(await client.ask("EHLO client.example"))
            await mx.nobody_left()
        assert [await connections(mx, each) for each in (CLIENT, OTHER, BALANCER)] == [1, 1, 0]
    assert not mx.log.traces


async def test_a_load_balancer_may_end_tls_and_says_so(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mx.example.net.pem")
    async with front_end(with_tls(certificate, tmp_path / "logins")) as mx:
        servers = {"smtp": mx.port, "submission": mx.ports[Kind.SUBMISSION], "submissions": mx.ports[Kind.SUBMISSION]}
        with haproxy(servers, lambda text: ending_tls(text, certificate)) as balancer:
            async with through(balancer, frontend="submissions") as client:
                await client.start_tls()
                await client.greeting()
                assert "STARTTLS" not in str(await client.ask("EHLO client.example")), "it is known to be encrypted"
            await mx.nobody_left()
        assert [await connections(mx, each) for each in (CLIENT, BALANCER)] == [1, 0]
    assert not mx.log.traces
