"""The desk over the API of another process: a real one, and strangers who speak HTTP, or something else."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from reputation.desk.api_client import MAX_ANSWER_OCTETS
from reputation.desk.contract import Wanted
from reputation.desk.documents import VerdictLine
from reputation.desk.remote import RemoteDesk
from reputation.errors import ApiError, ConfigError, EntityError, NothingThere, Refused, StoreUnavailable, Unreachable
from tests.api.conftest import api_program
from tests.cli.site_for_tests import BUSY, SECONDS, Site, fed, send, site_in, working
from tests.servers import RedisServer, TlsFiles, free_port, redis_server, tls_files
from tests.smtp.programs import running

TOKEN = "rpt_0123abcd_" + "s" * 43
EVERYTHING = Wanted()


@asynccontextmanager
async def stranger(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Somebody who answers each request with the next of these octets, and then ends the connection; his address, and
    the heads of the requests."""
    heads: list[bytes] = []
    left = list(answers)
    visits: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(asyncio.current_task())
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(left.pop(0) if left else answers[-1])
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", heads
        await asyncio.gather(*filter(None, visits), return_exceptions=True)


def http(status: int, media_type: str, body: str, *header: str) -> bytes:
    octets = body.encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {media_type}", f"Content-Length: {len(octets)}", *header]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + octets


def problem(status: int, detail: str, *header: str) -> bytes:
    return http(
        status, "application/problem+json", json.dumps({"title": "x", "status": status, "detail": detail}), *header
    )


@asynccontextmanager
async def desk_at(url: str, token: str = TOKEN, **more: str) -> AsyncIterator[RemoteDesk]:
    desk = RemoteDesk(url, token, **more)
    try:
        yield desk
    finally:
        await desk.close()


# Strangers


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (problem(400, "n: from 1 to 1000"), ConfigError, "n: from 1 to 1000"),
        (problem(404, 'there is no rule "x"'), NothingThere, 'there is no rule "x"'),
        (problem(413, "the body is too large"), ConfigError, "the body is too large"),
        (problem(401, "this token is not in force"), Refused, "reputon token create --name YOU --scope read"),
        (problem(403, "this takes a token with the scope read"), Refused, "--scope read"),
        (problem(429, "too many: try again in 7 s"), Refused, "try again in 7 s"),
        (problem(503, "the counter store does not answer"), StoreUnavailable, "the counter store does not answer"),
        (problem(500, "something went wrong here"), ApiError, "its log says what"),
        (http(404, "application/problem+json", "no JSON"), NothingThere, "HTTP 404"),
        (http(404, "application/problem+json", "[" * 100_000), NothingThere, "HTTP 404"),
        (http(200, "text/html", "<html>It works!</html>"), Unreachable, "not reputon's API (HTTP 200, text/html)"),
        (http(503, "text/html", "Bad gateway"), Unreachable, "not reputon's API (HTTP 503, text/html)"),
        (http(302, "text/html", "", "Location: http://192.0.2.1/"), Unreachable, "not reputon's API (HTTP 302"),
        (http(200, "application/json", "{}"), Unreachable, "it may be another release"),
        (http(200, "application/json", "nonsense"), Unreachable, "it may be another release"),
        (http(200, "application/json", '{"rules": [{}]}'), Unreachable, "Rules rules.0.rule"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable, "the connection broke"),
        (b"", Unreachable, "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Unreachable, "the connection broke"),
    ],
)
async def test_an_answer_becomes_the_error_that_it_stands_for(
    answer: bytes, error: type[Exception], words: str
) -> None:
    async with stranger(answer) as (url, heads), desk_at(url) as desk, asyncio.timeout(SECONDS):
        with pytest.raises(error) as raised:
            await desk.rules()
        with pytest.raises(error):
            await desk.lift("ban|ip:192.0.2.1", reason="x")
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert len(heads) == 2, "nothing is asked twice, and no redirection is followed"


async def test_fields_of_a_newer_release_are_passed_over() -> None:
    row = {"entity": "ip:192.0.2.1", "count": 3, "colour": "red"}
    answer = {"dimension": "ip", "metric": "messages", "window": "1h", "at": None, "rows": [row], "mood": {"a": [1]}}
    async with stranger(http(200, "application/json", json.dumps(answer))) as (url, _), desk_at(url) as desk:
        found = await desk.top("ip", "messages", "1h", 5)
    assert [(each.entity, each.count) for each in found.rows] == [("ip:192.0.2.1", 3)]


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.api_client.MAX_ANSWER_OCTETS", 100_000)
    assert MAX_ANSWER_OCTETS > 10_000_000
    async with stranger(http(200, "application/json", " " * 200_000)) as (url, _), desk_at(url) as desk:
        with pytest.raises(Unreachable):
            await desk.rules()


async def test_whoever_does_not_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.api_client.REQUEST_SECONDS", 0.2)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with desk_at(f"http://127.0.0.1:{silent.getsockname()[1]}") as desk:
            with pytest.raises(Unreachable, match="did not answer in time"):
                await desk.rules()


async def test_no_proxy_of_the_environment_gets_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stranger(b"") as (proxy, asked), stranger(problem(404, "none")) as (url, heads):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        async with desk_at(url) as desk:
            with pytest.raises(NothingThere):
                await desk.rules()
    assert not asked
    assert f"Authorization: Bearer {TOKEN}".encode() in heads[0]


@pytest.mark.parametrize(
    ("entity", "path"),
    [
        ("prefix:192.0.2.0/24", b"/v1/entities/prefix/192.0.2.0%2F24/explain"),
        ("sender:..", b"/v1/entities/sender/%2E%2E/explain"),
        ("sender:a/../b", b"/v1/entities/sender/a%2F..%2Fb/explain"),
        ("sender:a b?c#d%00\n\u202e", b"/v1/entities/sender/a%20b%3Fc%23d%2500%0A%E2%80%AE/explain"),
        ("helo:\udcff", b"/v1/entities/helo/%FF/explain"),
        ("user:x/explain", b"/v1/entities/user/x%2Fexplain/explain"),
    ],
)
async def test_a_name_is_one_part_of_the_path_whatever_is_in_it(entity: str, path: bytes) -> None:
    async with stranger(problem(404, "none")) as (url, heads), desk_at(url) as desk:
        with pytest.raises(NothingThere):
            await desk.explain(entity)
    assert heads[0].splitlines()[0] == b"GET " + path + b" HTTP/1.1"


@pytest.mark.parametrize("entity", ["", "nonsense", "sender:", ":x"])
async def test_what_names_nobody_is_not_asked_about(entity: str) -> None:
    async with desk_at(f"http://127.0.0.1:{free_port()}") as desk:
        with pytest.raises(EntityError, match="write DIMENSION:VALUE"):
            await desk.page(entity)


@pytest.mark.parametrize("id", ["", "ban", "ban|", "override|x", "override||ip:192.0.2.1", "nonsense|x", "|x"])
async def test_what_is_no_id_names_nothing(id: str) -> None:
    async with desk_at(f"http://127.0.0.1:{free_port()}") as desk:
        with pytest.raises(NothingThere, match=r"write ban\|TARGET"):
            await desk.lift(id, reason="x")


# The live stream


def event(id: str, **more: object) -> str:
    line = {"node": "a/1", "stage": "data", "action": "accept", "reason": "no-rule", **more}
    return f"id: {id}\nevent: verdict\ndata: {json.dumps({'id': id, 'at': 1.0, **line})}\n\n"


def stream(*events: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
    return (head + "".join(events)).encode()


async def first_lines(desk: RemoteDesk, n: int, wanted: Wanted = EVERYTHING, after: str | None = None) -> Sequence[str]:
    """The ids of the first lines that come."""
    found: list[str] = []
    async with asyncio.timeout(SECONDS), aclosing(desk.verdicts(wanted, after=after)) as lines:
        async for line in lines:
            if line is not None:
                found.append(line.id)
            if len(found) == n:
                break
    return found


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.remote.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("reputation.desk.remote.MAX_PAUSE_SECONDS", 0.02)


async def test_what_breaks_off_goes_on_after_the_last_line(no_pauses: None, caplog: pytest.LogCaptureFixture) -> None:
    answers = (
        stream(": hello\n\n", event("1-0"), event("1-1"), "id: 1-2\ndata: {half"),
        b"",
        http(502, "text/html", "gone"),
        problem(503, "there are as many live streams as may be"),
        stream(event("1-2", mood="new field"), "event: trouble\ndata: {}\n\n", event("1-3")),
    )
    with caplog.at_level(logging.WARNING, "reputon.desk"):
        async with stranger(*answers) as (url, heads), desk_at(url) as desk:
            assert await first_lines(desk, 4) == ["1-0", "1-1", "1-2", "1-3"]
    asked = [line for head in heads for line in head.splitlines() if line.lower().startswith(b"last-event-id")]
    assert asked == [b"Last-Event-ID: 1-1"] * 4
    assert b"Last-Event-ID" not in heads[0]
    assert caplog.messages[-1].endswith("its store does not answer; verdicts go on when it does")
    assert not [text for text in caplog.messages if TOKEN in text]


async def test_a_line_that_cannot_be_read_is_passed_over(no_pauses: None) -> None:
    answer = stream("id: 1-0\nevent: verdict\ndata: nonsense\n\n", "event: other\ndata: {}\n\n", event("1-1"))
    async with stranger(answer) as (url, _), desk_at(url) as desk:
        assert await first_lines(desk, 1) == ["1-1"]


async def test_a_line_without_end_breaks_it_off(no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.api_client.MAX_LINE_OCTETS", 10_000)
    answers = (stream(event("1-0"), "data: " + "x" * 100_000), stream(event("1-1")))
    async with stranger(*answers) as (url, _), desk_at(url) as desk:
        assert await first_lines(desk, 2) == ["1-0", "1-1"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(problem(401, "no"), Refused), (http(200, "text/html", "hello"), Unreachable), (b"", Unreachable)],
)
async def test_what_fails_at_first_is_told_at_once(answer: bytes, error: type[Exception]) -> None:
    async with stranger(answer) as (url, heads), desk_at(url) as desk:
        with pytest.raises(error):
            await first_lines(desk, 1)
    assert len(heads) == 1


async def test_a_token_that_was_taken_back_ends_it(no_pauses: None) -> None:
    async with stranger(stream(event("1-0")), problem(401, "no")) as (url, _), desk_at(url) as desk:
        with pytest.raises(Refused):
            await first_lines(desk, 2)


async def test_filters_are_the_server_s(no_pauses: None) -> None:
    wanted = Wanted(actions=frozenset({"reject", "tag"}), stages=frozenset({"data"}), rule="r", entity="ip:::/64")
    async with stranger(stream(event("1-0"))) as (url, heads), desk_at(url) as desk:
        await first_lines(desk, 1, wanted, after="0")
    assert heads[0].startswith(
        b"GET /v1/stream?action=reject&action=tag&stage=data&rule=r&entity=ip%3A%3A%3A%2F64 HTTP/1.1"
    )
    assert b"Last-Event-ID: 0\r\n" in heads[0]


async def test_a_real_one_that_is_started_again_loses_no_line(valkey: RedisServer, tmp_path: Path) -> None:
    site = site_in(tmp_path, valkey, "restarted", f'\n[api]\nlisten = ["127.0.0.1:{free_port()}"]\n')
    token = site.run("token", "create", "--name", "t", "--scope", "read", "--for", "1h").out.strip()
    with running(api_program(tmp_path / "api", site.config.read_text(encoding="utf-8"))) as program:
        async with desk_at(f"http://127.0.0.1:{program.port}", token) as desk, working(site) as engine:
            seen: list[VerdictLine] = []
            following = asyncio.create_task(_follow(desk, seen))
            async with asyncio.timeout(SECONDS):
                while not seen:  # it is not known when it has begun to listen
                    await send(engine, "first@example.org")
                    await engine.upkeep.stream.tell()
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(program.kill)
                await send(engine, "between@example.org", 3)
                await engine.upkeep.stream.tell()
                await asyncio.to_thread(program.start)
                while sum(line.sender == "between@example.org" and line.stage == "data" for line in seen) < 3:
                    await asyncio.sleep(0.05)
            assert len({line.id for line in seen}) == len(seen)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _follow(desk: RemoteDesk, seen: list[VerdictLine]) -> None:
    async with aclosing(desk.verdicts(EVERYTHING)) as lines:
        async for line in lines:
            seen += [line] if line is not None else []


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"))


async def test_a_certificate_of_nobody_we_know_is_not_believed(tls: TlsFiles) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    async with stranger(problem(404, "none"), tls=context) as (url, heads):
        async with desk_at(url) as desk:
            with pytest.raises(Unreachable, match=r"is not trusted .* with --ca"):
                await desk.rules()
        assert not heads, "the token was not told"
        async with desk_at(url, ca=str(tls.ca)) as desk:
            with pytest.raises(NothingThere):
                await desk.rules()
        async with desk_at(url.replace("127.0.0.1", "127.0.0.2"), ca=str(tls.ca)) as desk:
            with pytest.raises(Unreachable):
                await desk.rules()
        assert len(heads) == 1


async def test_whoever_speaks_no_tls_is_told_apart() -> None:
    def plain(listening: socket.socket) -> None:
        visitor, _ = listening.accept()
        with visitor:
            visitor.recv(1_000)
            visitor.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        visit = asyncio.create_task(asyncio.to_thread(plain, listening))
        async with desk_at(f"https://127.0.0.1:{listening.getsockname()[1]}") as desk:
            with pytest.raises(Unreachable, match="does not speak TLS"):
                await desk.rules()
        await visit


@pytest.mark.parametrize("what", ["ca", "certificate"])
def test_a_file_that_cannot_be_used_is_a_mistake(what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used for TLS: No such file"):
        RemoteDesk("https://127.0.0.1:1", TOKEN, **{what: str(tmp_path / "nothing")})
    (tmp_path / "empty").write_text("", encoding="ascii")
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        RemoteDesk("https://127.0.0.1:1", TOKEN, **{what: str(tmp_path / "empty")})


def test_the_command_asks_over_tls_and_says_who_we_are(tls: TlsFiles, tmp_path: Path) -> None:
    with redis_server() as server:
        table = f'certificate = "{tls.certificate}"\nkey = "{tls.key}"\nclient_ca = "{tls.ca}"\n'
        more = f'\n[api]\nlisten = ["127.0.0.1:{free_port()}"]\n[api.tls]\n{table}'
        site = site_in(tmp_path, server, "tls", more)
        asyncio.run(fed(site))
        token = site.run_here("token", "create", "--name", "t", "--scope", "read", "--for", "1h").out.strip()
        with running(api_program(tmp_path / "api", site.config.read_text(encoding="utf-8"))) as program:
            remote = replace(
                site, environment={"REPUTON_API": f"https://127.0.0.1:{program.port}", "REPUTON_TOKEN": token}
            )
            ours = ("--certificate", tls.certificate, "--certificate-key", tls.key)
            told = remote.run("top", "--json", "--ca", tls.ca, *ours)
            assert (told.status, told.err) == (0, "")
            assert told.json["rows"][0]["entity"] == f"sender:{BUSY}"
            for options, said in (((), "with --ca"), (("--ca", tls.ca), "--certificate and --certificate-key")):
                told = remote.run_here("top", *options)
                assert (told.status, said in told.err) == (3, True), told.err


def test_the_site_is_one(api_site: Site, store_site: Site) -> None:
    """What the fixtures promise: both ways ask the same."""
    assert api_site.run("rules", "--json").json == store_site.run("rules", "--json").json
