"""STARTTLS to the next hop: required, opportunistic, never; and what happens where it does not work."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from smtp_frontend.rehearsal.next_hop import CLOSE, Action, ScriptedHop
from smtp_frontend.reply import Reply
from tests.smtp.next_hop.conftest import open_patiently

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="not installed: apt-get install -y openssl")

ALICE, BOB = "alice@example.org", "bob@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of "localhost" with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    with path.open("a") as pem:
        pem.write(path.with_suffix(".crt").read_text())
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def deliver(hop: ScriptedHop, starttls: str, host: str = "127.0.0.1") -> Reply:
    url = hop.url.replace("127.0.0.1", host) + (f"?starttls={starttls}" if starttls else "")
    connection = open_patiently(url).connect()
    reply = await connection.mail(ALICE)
    if reply.positive:
        assert (await connection.rcpt(BOB)).positive
        reply = await connection.data([HELLO * 10_000])
    await connection.close()
    return reply


def assert_unreachable(reply: Reply) -> None:
    assert (reply.code, reply.enhanced, reply.ours) == (451, "4.4.1", True)


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_any_certificate_will_do_for_may(lmtp: bool, server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop(lmtp=lmtp, tls=server_tls) as hop:
        assert (await deliver(hop, "may")).positive
        [session] = hop.sessions
        assert session.tls
        hello = "LHLO" if lmtp else "EHLO"
        assert session.verbs[:4] == [hello, "STARTTLS", hello, "MAIL"]
        assert hop.messages[0].content == HELLO * 10_000


@pytest.mark.parametrize("starttls", ["", "no"])
async def test_loopback_is_clear_text(starttls: str, server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop(tls=server_tls) as hop:
        assert (await deliver(hop, starttls)).positive
        assert "STARTTLS" not in hop.sessions[0].verbs


@pytest.mark.usefixtures("trusted")
async def test_required_and_verified(server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop(tls=server_tls) as hop:
        assert (await deliver(hop, "require", "localhost")).positive
        assert hop.sessions[0].tls


@pytest.mark.usefixtures("trusted")
async def test_required_and_another_name(server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop(tls=server_tls) as hop:
        assert_unreachable(await deliver(hop, "require", "127.0.0.1"))
        assert "MAIL" not in hop.sessions[0].verbs


async def test_required_and_not_trusted(server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedHop(tls=server_tls) as hop:
        assert_unreachable(await deliver(hop, "require", "localhost"))
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_required_and_not_offered(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedHop() as hop:
        assert_unreachable(await deliver(hop, "require"))
        assert "MAIL" not in hop.sessions[0].verbs
    assert "STARTTLS" in caplog.text


@pytest.mark.parametrize("said", ["454 4.7.0 TLS not available", "500 5.5.1 What?"])
async def test_refused(said: str, server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop({"STARTTLS": said}, tls=server_tls) as hop:
        assert (await deliver(hop, "may")).positive
        assert len(hop.sessions) == 1
        assert_unreachable(await deliver(hop, "require"))


@pytest.mark.parametrize(
    "broken", [("220 Go ahead", CLOSE), b"220 Go ahead\r\nno handshake\r\n"], ids=["close", "junk"]
)
async def test_a_failed_handshake_is_followed_by_clear_text(broken: Action, server_tls: ssl.SSLContext) -> None:
    async with ScriptedHop({"STARTTLS": broken}, tls=server_tls) as hop:
        assert (await deliver(hop, "may")).positive
        assert [("MAIL" in session.verbs, session.tls) for session in hop.sessions] == [(False, False), (True, False)]
        assert_unreachable(await deliver(hop, "require"))


@pytest.mark.usefixtures("trusted")
async def test_what_was_said_before_tls_does_not_count(
    server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """An attacker on the way slips an answer in behind the 220, before the encryption starts."""
    async with ScriptedHop({"STARTTLS": b"220 Go ahead\r\n250 mallory.example\r\n"}, tls=server_tls) as hop:
        assert_unreachable(await deliver(hop, "require", "localhost"))
    assert "spoke between STARTTLS and the handshake" in caplog.text
