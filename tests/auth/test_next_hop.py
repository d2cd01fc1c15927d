"""Log-ins that another mail server decides: aiosmtpd's, which is somebody else's, with and without TLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from smtp_frontend.auth import DENIED, Accepted, Credentials, VerifierUnavailable, next_hop
from tests.auth.bad_servers import bad_server
from tests.auth.conftest import Opening
from tests.servers import TlsFiles, free_port, tls_files

ALICE = Credentials(login="alice", password="open sesame")
WRONG = Credentials(login="alice", password="wrong")
LONG = "long " * 120
"""A password that makes AUTH longer than a command may be."""


class MailServer:
    """Somebody else's mail server, which knows alice. `way` is "clear", "starttls" or "smtps"."""

    def __init__(self, way: str, tls: TlsFiles) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        starttls: dict[str, Any] = {"tls_context": context, "require_starttls": True} if way == "starttls" else {}
        self._lock = threading.Lock()
        self.by_tls: list[bool] = []
        """Of each log-in that was tried."""
        self.port = free_port()
        self.controller = Controller(
            Sink(),
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=context if way == "smtps" else None,
            authenticator=self._authenticate,
            auth_require_tls=False,
            **starttls,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        assert server.transport is not None
        with self._lock:
            self.by_tls.append(server.transport.get_extra_info("ssl_object") is not None)
        known = {(b"alice", b"open sesame"), (b"alice", LONG.encode())}
        return AuthResult(success=(data.login, data.password) in known, handled=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(request: pytest.FixtureRequest, tls: TlsFiles) -> Iterator[MailServer]:
    running = MailServer(request.param, tls)
    running.controller.start()
    yield running
    running.controller.stop()


def url_of(server: MailServer, way: str, ca: Path) -> str:
    return {
        "clear": f"smtp://127.0.0.1:{server.port}",
        "starttls": f"smtp://127.0.0.1:{server.port}?tls=starttls&ca={ca}",
        "smtps": f"smtps://127.0.0.1:{server.port}?ca={ca}",
    }[way]


@pytest.mark.parametrize(("server", "way"), [(way, way) for way in ("clear", "starttls", "smtps")], indirect=["server"])
async def test_the_other_server_decides(server: MailServer, way: str, tls: TlsFiles, opened: Opening) -> None:
    verifier = opened(url_of(server, way, tls.ca))
    assert await verifier.verify(ALICE, "192.0.2.7") == Accepted(user="alice")
    assert await verifier.verify(WRONG, "192.0.2.7") is DENIED
    assert await verifier.verify(Credentials(login="alice", password=LONG)) == Accepted(user="alice")
    assert server.by_tls == [way != "clear"] * 3


@pytest.mark.parametrize(("server", "way"), [("starttls", "starttls"), ("smtps", "smtps")], indirect=["server"])
async def test_a_certificate_that_proves_nothing_gets_no_password(
    server: MailServer, way: str, opened: Opening
) -> None:
    url = url_of(server, way, Path("x")).partition("ca=")[0].rstrip("?&")
    with pytest.raises(VerifierUnavailable, match="TLS"):
        await opened(url).verify(ALICE)
    assert server.by_tls == []


@pytest.mark.parametrize("server", ["clear"], indirect=True)
async def test_a_server_without_starttls_gets_no_password(server: MailServer, tls: TlsFiles, opened: Opening) -> None:
    with pytest.raises(VerifierUnavailable, match="answers STARTTLS with"):
        await opened(url_of(server, "starttls", tls.ca)).verify(ALICE)
    assert server.by_tls == []


@pytest.mark.parametrize("server", ["clear"], indirect=True)
async def test_many_log_in_at_once_over_few_connections(
    server: MailServer, tls: TlsFiles, opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_hop, "MAX_CONNECTIONS", 3)
    verifier = opened(url_of(server, "clear", tls.ca))
    found = await asyncio.gather(*(verifier.verify(ALICE if n % 2 else WRONG) for n in range(20)))
    assert found == [Accepted(user="alice") if n % 2 else DENIED for n in range(20)]


HELLO = [b"220 x ESMTP\r\n", b"250-x\r\n250-SIZE 1\r\n250 AUTH LOGIN PLAIN\r\n"]


@pytest.mark.parametrize(
    "answer",
    [
        b"535 5.7.8 no\r\n",
        b"535 no\r\n",
        b"525 5.7.13 disabled\r\n",
        b"550 5.7.8 no\r\n",
    ],
)
async def test_what_is_about_the_user_denies(answer: bytes, opened: Opening) -> None:
    async with bad_server([*HELLO, answer, b"221 bye\r\n"]) as server:
        assert await opened(f"smtp://127.0.0.1:{server.port}").verify(ALICE) is DENIED


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ([*HELLO, b"454 4.7.0 later\r\n"], "answers AUTH with 454"),
        ([*HELLO, b"421 bye\r\n"], "answers AUTH with 421"),
        ([*HELLO, b"538 5.7.11 by TLS only\r\n"], "answers AUTH with 538"),
        ([*HELLO, b"550 no\r\n"], "answers AUTH with 550"),
        ([*HELLO, b"250 what?\r\n"], "answers AUTH with 250"),
        ([*HELLO, b"334 more?\r\n"], "answers AUTH with 334"),
        ([*HELLO, b"hello\r\n"], "not a reply line"),
        ([HELLO[0], b"250 x\r\n"], "does not offer AUTH PLAIN"),
        ([HELLO[0], b"250-x\r\n250 AUTH LOGIN CRAM-MD5\r\n"], "does not offer AUTH PLAIN"),
        ([HELLO[0], b"250-x\r\n250 XAUTH PLAIN\r\n"], "does not offer AUTH PLAIN"),
        ([HELLO[0], b"250-x\r\n250 \r\n"], "does not offer AUTH PLAIN"),
        ([HELLO[0], b"502 what?\r\n"], "answers EHLO with 502"),
        ([b"554 not you\r\n"], "answers the greeting with 554"),
        ([b"220 x\r\n250-x\r\n250 AUTH PLAIN\r\n235 ok\r\n"], "spoke unasked"),
    ],
)
async def test_everything_else_is_our_trouble(says: Sequence[bytes], said: str, opened: Opening) -> None:
    async with bad_server([*says, b"221 bye\r\n"]) as server:
        with pytest.raises(VerifierUnavailable, match=said) as caught:
            await opened(f"smtp://127.0.0.1:{server.port}").verify(ALICE)
    assert "sesame" not in str(caught.value)


async def test_the_old_way_to_offer_auth_is_understood(opened: Opening) -> None:
    async with bad_server([HELLO[0], b"250-x\r\n250 AUTH=PLAIN\r\n", b"235 ok\r\n", b"221 bye\r\n"]) as server:
        assert await opened(f"smtp://127.0.0.1:{server.port}").verify(ALICE) == Accepted(user="alice")


@pytest.mark.parametrize("says", [[], HELLO[:1], HELLO], ids=["at-once", "at-ehlo", "at-auth"])
async def test_a_silent_server_is_given_up_in_time(says: Sequence[bytes], opened: Opening) -> None:
    async with bad_server(says) as server:
        with pytest.raises(VerifierUnavailable):
            await opened(f"smtp://127.0.0.1:{server.port}", deadline_seconds=0.2).verify(ALICE)


async def test_nobody_there_is_our_trouble(opened: Opening) -> None:
    with pytest.raises(VerifierUnavailable, match="cannot connect"):
        await opened(f"smtp://127.0.0.1:{free_port()}").verify(ALICE)
