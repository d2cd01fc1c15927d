"""TLS, with certificates of clients and without, over real handshakes."""

import asyncio
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api import connections
from api.connections import Listener, Places
from api.files import certificates_of
from reputation.api_settings import ApiSettings
from reputation.certificates import Certificates
from reputation.front_end_settings import TlsSettings
from tests.api.conftest import api_program, new_token
from tests.api.test_server import outcome
from tests.certificates_for_tests import make_certificate
from tests.servers import TlsFiles, tls_files
from tests.smtp.programs import Program, running

CONFIG = """
[store]
url = "memory:"

[api]
listen = ["127.0.0.1:0"]

[api.tls]
certificate = "{tls.certificate}"
key = "{tls.key}"
"""
PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate of somebody else's authority."""
    return tls_files(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Program]:
    with running(api_program(tmp_path_factory.mktemp("https"), CONFIG.format(tls=tls))) as program:
        yield program


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Program]:
    config = CONFIG.format(tls=tls) + f'client_ca = "{tls.ca}"\n'
    with running(api_program(tmp_path_factory.mktemp("mutual"), config)) as program:
        yield program


def trusting(tls: TlsFiles, own: TlsFiles | None = None) -> ssl.SSLContext:
    """A client's context, with a certificate of its own or without."""
    context = ssl.create_default_context(cafile=tls.ca)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


@asynccontextmanager
async def asked(
    program: Program, context: ssl.SSLContext, path: str = "/healthz"
) -> AsyncIterator[aiohttp.ClientResponse]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    address = f"https://localhost:{program.port}"
    async with aiohttp.ClientSession(address, timeout=timeout) as session, session.get(path, ssl=context) as answer:
        yield answer


async def test_it_speaks_tls_and_still_wants_a_token(https: Program, tls: TlsFiles) -> None:
    async with asked(https, trusting(tls)) as answer:
        assert answer.status == 200
    async with asked(https, trusting(tls), "/v1/rules") as answer:
        assert answer.status == 401


async def test_nobody_who_speaks_plainly_is_answered(https: Program) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", https.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert not (await reader.read()).startswith(b"HTTP/")
    writer.close()
    assert https.lines("Traceback") == []


async def test_tls_is_1_2_at_least(https: Program, tls: TlsFiles) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(tls)
        context.minimum_version = context.maximum_version = version
        async with asked(https, context) as answer:
            assert answer.status == 200
    old = trusting(tls)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError):
        async with asked(https, old):
            pass


async def test_who_has_no_certificate_is_not_let_in_where_one_is_needed(
    mutual: Program, tls: TlsFiles, stranger: TlsFiles
) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for own in (None, stranger):
            context = trusting(tls, own)
            context.minimum_version = context.maximum_version = version
            with pytest.raises((aiohttp.ClientError, OSError)):
                async with asked(mutual, context):
                    pass
    async with asked(mutual, trusting(tls, tls)) as answer:
        assert answer.status == 200
    async with asked(mutual, trusting(tls, tls), "/v1/rules") as answer:
        assert answer.status == 401, "a token is needed all the same"
    assert new_token("read", now=0.0)[0] not in mutual.log
    assert mutual.lines("Traceback") == []


async def test_a_renewed_certificate_is_served_and_clients_still_need_theirs(tls: TlsFiles, tmp_path: Path) -> None:
    for path in (tls.certificate, tls.key, tls.ca):
        shutil.copy(path, tmp_path / path.name)
    files = {"certificate": tmp_path / "server.crt", "key": tmp_path / "server.key", "client_ca": tmp_path / "ca.crt"}
    settings = ApiSettings.model_validate({"tls": {name: str(path) for name, path in files.items()}})
    certificates = certificates_of(settings)
    assert certificates is not None

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def greeted(own: TlsFiles | None) -> tuple[bytes, bytes | None]:
        """What is heard, and the server's certificate."""
        context = trusting(tls, own)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(*address, ssl=context)
            try:
                of_peer: Any = writer.get_extra_info("ssl_object")
                return await reader.read(), of_peer.getpeercert(binary_form=True)
            finally:
                writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=certificates.context) as server:
        address = server.sockets[0].getsockname()
        before = await greeted(tls)
        renewed = make_certificate(tmp_path / "renewed.pem")
        shutil.copy(renewed, tmp_path / "server.crt")
        shutil.copy(renewed.with_suffix(".key"), tmp_path / "server.key")
        certificates.refresh()
        after = await greeted(tls)
        assert (before[0], after[0]) == (b"hello", b"hello")
        assert before[1] != after[1] == ssl.PEM_cert_to_DER_cert(renewed.read_text())
        heard = b""
        with suppress(ssl.SSLError, ConnectionError):  # TLS 1.3: a client hears of it when it reads, if it does
            heard = (await greeted(None))[0]
        assert heard == b""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"certificate": "gone.pem"}, "[api.tls] certificate, key: gone.pem cannot be read: No such file or directory"),
        ({"key": "gone.key"}, "[api.tls] certificate, key: gone.key cannot be read: No such file or directory"),
        (
            {"key": "{stranger.key}"},
            (
                "[api.tls] certificate, key: {tls.certificate} with {stranger.key} cannot be used: "
                "the key is not that of the first certificate in the file"
            ),
        ),
        ({"client_ca": "gone.pem"}, "[api.tls] client_ca: gone.pem cannot be read: No such file or directory"),
        ({"client_ca": "{tls.key}"}, "[api.tls] client_ca: no certificates in it, in PEM"),
    ],
)
def test_a_mistake_in_the_files_is_one_line_that_names_them(
    wrong: dict[str, str], said: str, tls: TlsFiles, stranger: TlsFiles, tmp_path: Path
) -> None:
    files = {"certificate": str(tls.certificate), "key": str(tls.key), "client_ca": str(tls.ca), **wrong}
    lines = [f'{name} = "{path.format(tls=tls, stranger=stranger)}"' for name, path in files.items()]
    table = "\n".join(['[api]\nlisten = ["127.0.0.1:0"]\n[api.tls]', *lines])
    for options in ([], ["--check"]):
        assert outcome(tmp_path, table, *options) == (1, [f"reputon.toml: {said.format(tls=tls, stranger=stranger)}"])


def test_a_key_that_is_good_is_said_to_be(tls: TlsFiles, tmp_path: Path) -> None:
    table = f'[api.tls]\ncertificate = "{tls.certificate}"\nkey = "{tls.key}"\nclient_ca = "{tls.ca}"'
    status, said = outcome(tmp_path, table, "--check")
    assert (status, [line for line in said if "is valid for less than 2 days: renew it" not in line]) == (0, [])


async def test_whoever_does_not_shake_hands_is_let_go_and_holds_a_place_until_then(
    tls: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_SECONDS", 0.3)
    settings = TlsSettings(certificate=str(tls.certificate), key=str(tls.key))
    places, lost = Places(2), asyncio.Event()

    class Silent(asyncio.Protocol):
        def __init__(self, over: Callable[[], None]) -> None:
            self._over = over

        def connection_lost(self, _: Exception | None) -> None:
            self._over()
            lost.set()

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listener = Listener(listening, places, Silent, Certificates(settings).context)
    async with asyncio.timeout(PATIENCE_SECONDS):
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        began = time.monotonic()
        assert await waiting[2][0].read() == b""
        assert places.taken == 2
        for reader, _ in waiting[:2]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert time.monotonic() - began > 0.2
        assert places.taken == 0
        _, writer = await asyncio.open_connection("localhost", port, ssl=trusting(tls))
        assert places.taken == 1
        writer.close()
        await lost.wait()
        assert places.taken == 0
        listener.close()
        await listener.wait_closed()
    for _, writer in waiting:
        writer.close()
