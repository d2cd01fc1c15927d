"""Certificates over real handshakes: which one a client gets, what is renewed, what is refused, what is warned of."""

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from reputation.certificates import MAX_NAMES, Certificates, Loaded
from reputation.clock import ManualClock
from reputation.errors import ConfigError
from reputation.front_end_settings import TlsSettings
from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS, until
from tests.certificates_for_tests import DAY_SECONDS, EC, RSA, WEAK, make_certificate
from tests.servers import require_binary

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NOW = 1_900_000_000.0


@pytest.fixture
def default(tmp_path: Path) -> Path:
    return make_certificate(tmp_path / "mx.example.net.pem")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With certificates for two names and for all names in a domain, and what else may lie there."""
    path = tmp_path / "names"
    path.mkdir()
    for name in ("mail.example.org", "in.example.com", "_.example.com"):
        make_certificate(path / f"{name}.pem")
    (path / "README").write_text("renewed by hand")
    (path / ".mail.example.org.pem.swp").write_text("")
    (path / ".hidden.pem").write_text("")
    return path


def settings(default: Path, directory: Path | None = None, minimum: Literal["1.2", "1.3"] = "1.2") -> TlsSettings:
    return TlsSettings(
        certificate=str(default),
        key=str(default.with_suffix(".key")),
        directory="" if directory is None else str(directory),
        minimum_version=minimum,
    )


def certificate_in(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@asynccontextmanager
async def serving(certificates: Certificates, *, start_tls: bool = False) -> AsyncIterator[int]:
    """A server that says "hello" by TLS, from the first octet or after a line; yields its port."""

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            if start_tls:
                writer.write(b"begin\n")
                await writer.start_tls(certificates.context)
            writer.write(b"hello\n")
            await reader.read()

    server = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=None if start_tls else certificates.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def shown(port: int, name: str | None, version: ssl.TLSVersion = NEW, *, start_tls: bool = False) -> bytes:
    """The certificate that a client gets that asks for a name. Raises `ssl.SSLError`."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    async with asyncio.timeout(PATIENCE_SECONDS):
        tls = {} if start_tls else {"ssl": context, "server_hostname": name or "127.0.0.1"}  # an address is no SNI
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)  # type: ignore[arg-type] # two words
        with closing(writer):
            if start_tls:
                assert await reader.readline() == b"begin\n"
                await writer.start_tls(context, server_hostname=name or "127.0.0.1")
            assert await reader.readline() == b"hello\n"
            connection = writer.get_extra_info("ssl_object")
            assert connection.version() == {OLD: "TLSv1.2", NEW: "TLSv1.3"}[version]
            certificate: bytes = connection.getpeercert(binary_form=True)
            return certificate


# Which one


@pytest.mark.parametrize("start_tls", [False, True], ids=["implicit", "starttls"])
@pytest.mark.parametrize("version", [OLD, NEW], ids=["1.2", "1.3"])
async def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(
    default: Path, directory: Path, version: ssl.TLSVersion, start_tls: bool
) -> None:
    expected = {
        None: default,
        "mail.example.org": directory / "mail.example.org.pem",
        "MAIL.example.ORG": directory / "mail.example.org.pem",
        "in.example.com": directory / "in.example.com.pem",
        "other.example.com": directory / "_.example.com.pem",
        "a.b.example.com": default,
        "example.com": default,
        "unknown.example": default,
        "com": default,
        "hidden": default,
    }
    async with serving(Certificates(settings(default, directory)), start_tls=start_tls) as port:
        for name, path in expected.items():
            assert await shown(port, name, version, start_tls=start_tls) == certificate_in(path), name


@pytest.mark.parametrize("kind", [EC, RSA], ids=["ec", "rsa"])
async def test_a_client_that_verifies_is_content(tmp_path: Path, kind: tuple[str, ...]) -> None:
    path = make_certificate(tmp_path / "mx.example.net.pem", kind=kind)
    trusting = ssl.create_default_context(cafile=str(path))
    trusting.check_hostname = False  # the certificate of the test has no alternative name
    async with serving(Certificates(settings(path))) as port, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="mx.example.net"
        )
        with closing(writer):
            assert await reader.readline() == b"hello\n"


# How


@pytest.mark.parametrize(
    ("minimum", "version", "spoken"),
    [("1.2", ssl.TLSVersion.TLSv1_1, False), ("1.2", OLD, True), ("1.3", OLD, False), ("1.3", NEW, True)],
)
async def test_no_older_version_is_spoken_than_the_minimum(
    default: Path, minimum: Literal["1.2", "1.3"], version: ssl.TLSVersion, spoken: bool
) -> None:
    require_binary("openssl", "openssl")
    option = {ssl.TLSVersion.TLSv1_1: "-tls1_1", OLD: "-tls1_2", NEW: "-tls1_3"}[version]
    async with serving(Certificates(settings(default, minimum=minimum))) as port:
        words = ("s_client", "-connect", f"127.0.0.1:{port}", option, "-cipher", "DEFAULT:@SECLEVEL=0")
        assert (b"hello" in await openssl_client(*words)) == spoken


async def test_a_client_may_not_negotiate_anew(default: Path) -> None:
    async with serving(Certificates(settings(default))) as port:
        said = await openssl_client("s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", say=b"R\n")
    assert b"hello" in said
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


async def openssl_client(*words: str, say: bytes = b"") -> bytes:
    """What `openssl s_client` prints, until it ends. When it has heard from us it is told something, or to end."""
    process = await asyncio.create_subprocess_exec(
        "openssl", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while piece := await process.stdout.read(4_096):
            if b"hello\n" in piece:
                process.stdin.write(say or b"Q\n")
            said += piece
        await process.wait()
    return said


async def test_a_client_that_speaks_no_tls_leaves_no_trace(default: Path) -> None:
    async with serving(Certificates(settings(default))) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"EHLO client.example\r\n")
        assert await shown(port, None) == certificate_in(default)


# Renewed


@pytest.mark.parametrize("kind", [EC, RSA], ids=["ec", "rsa"])
async def test_a_renewed_certificate_comes_into_force_and_sessions_go_on(
    default: Path, directory: Path, kind: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(settings(default, directory))
    named = directory / "mail.example.org.pem"
    async with serving(certificates) as port, asyncio.timeout(PATIENCE_SECONDS):
        was = await shown(port, None), await shown(port, "mail.example.org")
        make_certificate(default, kind=kind)
        make_certificate(named, kind=kind)
        assert (await shown(port, None), await shown(port, "mail.example.org")) == was
        await asyncio.to_thread(certificates.refresh)
        for version in (OLD, NEW):
            assert await shown(port, None, version) == certificate_in(default) != was[0]
            assert await shown(port, "mail.example.org", version) == certificate_in(named) != was[1]
    assert [text for text in errors(caplog) if text] == []


async def test_files_are_looked_at_again_and_again(default: Path) -> None:
    certificates = Certificates(settings(default))
    keeper = asyncio.create_task(certificates.keep_fresh(every_seconds=0.005))
    for _ in range(2):
        was = certificates.chosen("")
        make_certificate(default)
        await until(partial(is_another, certificates, was), "it is renewed")
    keeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeper


def is_another(certificates: Certificates, was: Loaded) -> bool:
    return certificates.chosen("") is not was


async def test_a_round_that_fails_is_not_the_last_one(default: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stumbling(ManualClock):
        def now(self) -> float:
            if len(errors(caplog)) < 2:
                raise ZeroDivisionError
            return super().now()

    certificates = Certificates(settings(default))
    certificates.clock = Stumbling(NOW)
    keeper = asyncio.create_task(certificates.keep_fresh(every_seconds=0.001))
    await until(lambda: len(errors(caplog)) == 3, "two failures, and then it has expired")
    keeper.cancel()
    assert [text.rpartition(" ")[2] for text in errors(caplog)] == ["read", "read", "expired"]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_bad_renewal_leaves_the_old_one_in_force_and_is_said_once(
    default: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(settings(default, directory))
    key = default.with_suffix(".key")
    async with serving(certificates) as port:
        was = await shown(port, None)
        kept = key.read_bytes()
        key.write_bytes((directory / "in.example.com.key").read_bytes())
        for _ in range(3):
            certificates.refresh()
        assert errors(caplog)[0].startswith(f"a certificate stays as it was: [smtp.tls] certificate, key: {default} ")
        assert errors(caplog)[0].endswith("the key is not that of the first certificate in the file")
        assert len(errors(caplog)) == 1
        key.unlink()
        for _ in range(3):
            certificates.refresh()
        missing = f"[smtp.tls] certificate, key: {key} cannot be read: No such file or directory"
        assert errors(caplog)[1:] == [f"a certificate stays as it was: {missing}"]
        assert await shown(port, None) == was
        key.write_bytes(kept)
        certificates.refresh()
        assert await shown(port, None) == was
        assert len(errors(caplog)) == 2


async def test_names_come_and_go(default: Path, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificates = Certificates(settings(default, directory))
    async with serving(certificates) as port:
        new = make_certificate(directory / "new.example.org.pem")
        (directory / "Bad Name.pem").write_text("")
        (directory / "half.example.org.key").write_text("")
        for _ in range(2):
            certificates.refresh()
        assert await shown(port, "new.example.org") == certificate_in(new)
        advice = "write mx.example.net.pem, or _.example.net.pem for all names in example.net, in lower case and ASCII"
        assert [text.partition(": [smtp.tls] directory: ")[2] for text in errors(caplog)] == [
            f"{directory}/Bad Name.pem is not called like a host: {advice}",
            f"{directory}/half.example.org.pem cannot be read: No such file or directory",
        ]
        new.unlink()
        new.with_suffix(".key").unlink()
        certificates.refresh()
        assert await shown(port, "new.example.org") == certificate_in(default)


async def test_a_directory_that_is_away_leaves_its_names_in_force(
    default: Path, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(settings(default, directory))
    named = certificate_in(directory / "mail.example.org.pem")
    away = directory.rename(directory.with_name("away"))
    async with serving(certificates) as port:
        for _ in range(3):
            certificates.refresh()
        assert await shown(port, "mail.example.org") == named
        gone = f"[smtp.tls] directory: {directory} cannot be read: No such file or directory"
        assert errors(caplog) == [f"a certificate stays as it was: {gone}"]
        away.rename(directory)
        certificates.refresh()
        assert await shown(port, "mail.example.org") == named
    away = directory.rename(away)
    certificates.refresh()
    assert len(errors(caplog)) == 2, "it is said again when it has happened again"


# At start


def mistake(tls: TlsSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        Certificates(tls)
    return str(caught.value)


def test_a_file_that_is_not_there_is_named(default: Path, tmp_path: Path) -> None:
    tls = settings(default)
    missing = tls.model_copy(update={"key": str(tmp_path / "none.key")})
    assert (
        mistake(missing)
        == f"[smtp.tls] certificate, key: {tmp_path}/none.key cannot be read: No such file or directory"
    )
    missing = tls.model_copy(update={"certificate": str(tmp_path)})
    assert mistake(missing) == f"[smtp.tls] certificate, key: {tmp_path} cannot be read: Is a directory"
    missing = tls.model_copy(update={"directory": str(tmp_path / "none")})
    assert mistake(missing) == f"[smtp.tls] directory: {tmp_path}/none cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("another", "the key is not that of the first certificate in the file"),
        ("garbage", "no private key in the key file"),
        ("damaged", "its certificates or its key are damaged"),
        ("encrypted", "the key is encrypted with a password: write it without one, readable to reputon only"),
    ],
)
def test_a_key_that_cannot_be_used_is_a_mistake(default: Path, tmp_path: Path, key: str, reason: str) -> None:
    path, other = default.with_suffix(".key"), make_certificate(tmp_path / "other.pem").with_suffix(".key")
    if key == "another":
        shutil.copy(other, path)
    elif key == "garbage":
        path.write_text("nothing\n")
    elif key == "damaged":
        path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    else:
        command = ["openssl", "pkey", "-in", str(other), "-aes256", "-passout", "pass:secret", "-out", str(path)]
        subprocess.run(command, check=True, capture_output=True)
    expected = f"[smtp.tls] certificate, key: {default} with {path} cannot be used: {reason}"
    assert mistake(settings(default)) == expected


def test_a_certificate_that_cannot_be_used_is_a_mistake(tmp_path: Path) -> None:
    weak = make_certificate(tmp_path / "weak.pem", kind=WEAK)
    assert mistake(settings(weak)).endswith("cannot be used: ee key too small")
    weak.write_text("nothing\n")
    assert mistake(settings(weak)).endswith("cannot be used: no certificate in it")


def test_all_mistakes_are_told_at_once(default: Path, directory: Path) -> None:
    default.with_suffix(".key").unlink()
    (directory / "mail.example.org.key").unlink()
    (directory / "in.example.com.pem").unlink()
    (directory / "_.example.com.pem").rename(directory / "*.example.com.pem")
    assert [line.partition(": ")[2].split(" ")[0] for line in mistake(settings(default, directory)).splitlines()] == [
        str(default.with_suffix(".key")),
        f"{directory}/*.example.com.pem",
        f"{directory}/_.example.com.pem",
        f"{directory}/in.example.com.pem",
        f"{directory}/mail.example.org.key",
    ]


def test_a_directory_has_a_bound(default: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MAX_NAMES + 1):
        (many / f"n{number}.example.net.pem").touch()
    assert mistake(settings(default, many)) == f"[smtp.tls] directory: more than {MAX_NAMES} certificates in {many}"


# Dates


def test_what_ends_soon_is_warned_of_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reputon.tls")
    path = make_certificate(tmp_path / "mx.example.net.pem", ends_at=NOW + 10 * DAY_SECONDS)
    clock = ManualClock(NOW)
    certificates = Certificates(settings(path), clock)
    for _ in range(11 * 4):
        clock.advance(DAY_SECONDS / 4)
        certificates.refresh()
        certificates.refresh()
    ends = [(record.levelname, record.getMessage().partition(" is valid for ")[2]) for record in caplog.records]
    assert ends == [
        ("INFO", "10 days"),
        *[("WARNING", f"less than {days} days: renew it") for days in range(7, 0, -1)],
        ("ERROR", ""),
    ]
    assert caplog.messages[-1] == f"[smtp.tls] certificate, key: {path} has expired"


def test_a_renewal_ends_the_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reputon.tls")
    path = make_certificate(tmp_path / "mx.example.net.pem", ends_at=NOW + 2 * DAY_SECONDS)
    certificates = Certificates(settings(path), ManualClock(NOW))
    make_certificate(path, begins_at=NOW, ends_at=NOW + 90 * DAY_SECONDS)
    certificates.refresh()
    certificates.refresh()
    assert caplog.messages[1:] == [
        f"[smtp.tls] certificate, key: {path} is read again",
        f"[smtp.tls] certificate, key: {path} is valid for 90 days",
    ]


async def test_an_expired_certificate_is_served_where_there_is_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_certificate(tmp_path / "mx.example.net.pem", ends_at=NOW - DAY_SECONDS / 2)
    async with serving(Certificates(settings(path), ManualClock(NOW))) as port:
        assert await shown(port, None) == certificate_in(path)
    assert errors(caplog) == [f"[smtp.tls] certificate, key: {path} has expired"]


async def test_an_expired_renewal_is_a_bad_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_certificate(tmp_path / "mx.example.net.pem", ends_at=NOW + 30 * DAY_SECONDS)
    certificates, was = Certificates(settings(path), ManualClock(NOW)), certificate_in(path)
    make_certificate(path, ends_at=NOW - DAY_SECONDS)
    certificates.refresh()
    certificates.refresh()
    async with serving(certificates) as port:
        assert await shown(port, None) == was
    assert errors(caplog) == [
        f"a certificate stays as it was: [smtp.tls] certificate, key: {path} has expired, and the one in force has not"
    ]


def test_a_certificate_of_tomorrow_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends_at = NOW + 30 * DAY_SECONDS
    path = make_certificate(tmp_path / "mx.example.net.pem", begins_at=NOW + DAY_SECONDS, ends_at=ends_at)
    certificates = Certificates(settings(path), ManualClock(NOW))
    certificates.refresh()
    assert caplog.messages == [f"[smtp.tls] certificate, key: {path} is not valid yet"]


def test_dates_are_those_that_openssl_reads(default: Path) -> None:
    command = ["openssl", "x509", "-in", str(default), "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    dates = Certificates(settings(default)).chosen("").dates
    expected = [
        f"{word}={time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(moment))}"
        for word, moment in (("notBefore", dates.begins_at), ("notAfter", dates.ends_at))
    ]
    assert printed.splitlines() == expected
