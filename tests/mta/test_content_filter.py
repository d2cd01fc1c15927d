"""Mail through the whole front end, with a real rspamd as its content filter, and with signatures looked up."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.config_files import settings_in
from reputation.engine import Engine
from reputation.keys import parse_entity
from smtp_frontend.listeners import bind
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from smtp_frontend.server import Server
from smtp_frontend.surroundings import open_surroundings
from tests.dns_server import DnsServer, dns_server
from tests.mta.rspamd_for_tests import Rspamd, rspamd
from tests.signing import key_record, rsa_key, signed
from tests.unit.lookups.filters.conftest import GTUBE

CONFIG = """
include = ["default"]
[store]
url = "memory:"
[smtp]
listen = ["127.0.0.1:0"]
hostname = "mx.example.net"
next_hop = "{next_hop}"
{more}
"""
FILTER = '[lookups]\nnameservers = ["127.0.0.1:1"]\n[[filter]]\nurl = "{url}"\ndeadline_seconds = 2\n'

SPF = 'example.com. 60 TXT "v=spf1 ip4:127.0.0.1 -all"\nexample.org. 60 TXT "v=spf1 -all"\n'


def filtered_by(server: Rspamd, dns: DnsServer) -> str:
    return f'[lookups]\nnameservers = ["{dns.address}"]\n[[filter]]\nurl = "{server.url}"\n'


class FrontEnd:
    """The front end as it is put together in service, and a way to send through it."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine = engine
        self._port = port

    async def send(self, content: bytes, sender: str = "alice@example.com") -> str:
        """Send a message; what is said to it."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        try:
            await client.begin("bob@example.net", sender=sender)
            return str(await client.message(content))
        finally:
            await client.hang_up()

    def learned(self, kind: str) -> float:
        """Outcomes of a kind."""
        return self.engine.metrics.registry.get_sample_value("reputon_outcomes_total", {"kind": kind}) or 0.0

    async def evidence(self, entity: str) -> tuple[float, float]:
        """How much good and bad evidence there is of somebody himself."""
        found = (await self.engine.explain(parse_entity(entity, self.engine.spelling))).reputation
        assert found is not None
        own = found.levels[-1].long
        return round(own.good, 1), round(own.bad, 1)


@asynccontextmanager
async def serving(hop: ScriptedHop, more: str) -> AsyncIterator[FrontEnd]:
    tables = tomllib.loads(CONFIG.format(next_hop=hop.url, more=more))
    settings: Settings = settings_in(tables, Path("test.toml"))
    async with open_engine(settings) as engine, open_surroundings(settings.smtp, engine) as shared:
        server, listeners = Server(shared), bind(settings, reuse_port=False)
        await server.listen(listeners)
        try:
            yield FrontEnd(engine, listeners[0].socket.getsockname()[1])
        finally:
            await server.close()


@pytest.fixture(scope="module")
def filter_server() -> Iterator[Rspamd]:
    with rspamd() as running:
        yield running


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedHop]:
    async with ScriptedHop() as hop:
        yield hop


async def test_gtube_is_refused_and_counts_against_the_sender_and_the_client(
    filter_server: Rspamd, hop: ScriptedHop
) -> None:
    async with dns_server(SPF) as dns, serving(hop, filtered_by(filter_server, dns)) as mx:
        assert (await mx.send(GTUBE)).startswith("554 5.7.1")
        assert hop.received == []
        await until(lambda: mx.learned("spam") == 1, "the outcome is learned")
        for entity in ("sender:alice@example.com", "ip:127.0.0.1", "sender_domain:example.com"):
            assert await mx.evidence(entity) == (0, 1)


async def test_spam_in_the_name_of_somebody_else_is_no_evidence_against_him(
    filter_server: Rspamd, hop: ScriptedHop
) -> None:
    """Whoever sends chooses what the filter says, and whose name he writes."""
    async with dns_server(SPF) as dns, serving(hop, filtered_by(filter_server, dns)) as mx:
        forged = b"From: boss@example.org\r\n" + GTUBE
        assert (await mx.send(forged, sender="boss@example.org")).startswith("554 5.7.1")
        await until(lambda: mx.learned("spam") == 1, "the outcome is learned")
        assert await mx.evidence("ip:127.0.0.1") == (0, 1)
        for entity in ("sender:boss@example.org", "sender_domain:example.org", "author:boss@example.org"):
            assert await mx.evidence(entity) == (0, 0)


async def test_good_mail_passes_and_is_evidence_too(filter_server: Rspamd, hop: ScriptedHop) -> None:
    async with dns_server(SPF) as dns, serving(hop, filtered_by(filter_server, dns)) as mx:
        assert (await mx.send(b"Subject: hello\r\n\r\nhello\r\n")).startswith("250")
        await until(lambda: mx.learned("ham") == 1, "the outcome is learned")
        assert await mx.evidence("sender:alice@example.com") == (1, 0)


async def test_what_the_filter_would_mark_is_tagged_with_its_fields(filter_server: Rspamd, hop: ScriptedHop) -> None:
    marked = b"X-Test-Action: add header\r\nX-Test-Fields: yes\r\nX-Old: gone\r\nSubject: hello\r\n\r\nhello\r\n"
    async with serving(hop, FILTER.format(url=filter_server.url)) as mx:
        assert (await mx.send(marked)).startswith("250")
    (message,) = hop.received
    header = message.content.partition(b"\r\n\r\n")[0]
    assert b"tags=filter-spam" in header
    assert b"service=uce" in header
    assert b"X-Spam: Yes" in header
    assert b"X-Old" not in header


async def test_a_virus_is_refused_and_a_soft_reject_comes_again(filter_server: Rspamd, hop: ScriptedHop) -> None:
    async with serving(hop, FILTER.format(url=filter_server.url)) as mx:
        assert (await mx.send(b"X-Test-Virus: Eicar\r\n\r\nx\r\n")).startswith("550 5.7.1 The message contains malware")
        assert (await mx.send(b"X-Test-Action: soft reject\r\n\r\nx\r\n")).startswith("451")
        assert hop.received == []


@pytest.mark.parametrize(("on_failure", "code"), [("accept", "250"), ("tempfail", "451 4.3.0")])
async def test_a_filter_that_is_away_is_no_reason_to_refuse_for_good(
    on_failure: str, code: str, hop: ScriptedHop
) -> None:
    away = FILTER.format(url="rspamd://127.0.0.1:1") + f'on_failure = "{on_failure}"\n'
    async with serving(hop, away) as mx:
        assert (await mx.send(GTUBE)).startswith(code)
        assert await mx.evidence("ip:127.0.0.1") == (0, 0)


async def test_what_is_found_out_about_a_message_is_told_and_forgeries_are_taken_out(hop: ScriptedHop) -> None:
    key = rsa_key()
    zone = (
        'example.com. 60 TXT "v=spf1 ip4:127.0.0.1 -all"\n_dmarc.example.com. 60 TXT "v=DMARC1; p=reject"\n'
        + key_record("s1", "example.com", key.record)
    )
    forged = b"Authentication-Results: mx.example.net; dkim=pass header.d=bank.example\r\n"
    message = signed(
        b"From: alice@example.com\r\nSubject: hello\r\n\r\nhello\r\n", key, domain="example.com", selector="s1"
    )
    async with dns_server(zone) as dns:
        more = f'authentication_results = true\n[lookups]\nnameservers = ["{dns.address}"]\n'
        async with serving(hop, more) as mx:
            assert (await mx.send(forged + message)).startswith("250")
            assert (await mx.send(message.replace(b"\r\n\r\nhello", b"\r\n\r\nhullo"))).startswith("250")
    good, tampered = (message.content for message in hop.received)
    assert good.count(b"Authentication-Results:") == 1
    assert b"bank.example" not in good
    assert b"\tdkim=pass header.d=example.com header.s=s1" in good
    assert b"\tspf=pass smtp.mailfrom=alice@example.com" in good
    assert b"\tdmarc=pass (p=reject) header.from=example.com" in good
    assert b"\tdkim=fail header.d=example.com" in tampered
