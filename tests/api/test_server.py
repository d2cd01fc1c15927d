"""The server and its door: mistakes, bounds on what is sent, header fields, signals, reloads, and its end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from api import protocol
from api.app import application
from api.connections import Places
from api.console.pages.entrance import DOOR
from api.console.visits import FORM_FIELD
from api.door import SMALL_OCTETS, Exchange
from api.gate import Gate
from api.protocol import cut_off_late
from api.server import Server, config_of
from api.surroundings import Surroundings
from reputation.config import Settings
from reputation.desk.local import EngineDesk
from reputation.engine import Engine
from reputation.errors import ConfigError, NothingThere, StoreMisuse, StoreUnavailable
from reputation.policy import Policy
from reputation.remarks import RELOAD
from reputation.store import memory_register
from reputation.store.memory import MemoryStore
from tests.api.conftest import Api, Process, api_program, new_token, status_of, until_answer
from tests.servers import RedisServer, free_port, wait_until
from tests.smtp.programs import config_of as front_end_config
from tests.smtp.programs import front_end, listens, running
from tests.smtp.test_systemd import Told, Unit

PATIENCE_SECONDS = 10.0


# An application of the test's own


class House:
    """The application in the test's own process, served by the real server, with routes that the test adds."""

    def __init__(self, server: Server, app: FastAPI, surroundings: Surroundings, port: int, token: str) -> None:
        self.server, self.app, self.surroundings, self.port = server, app, surroundings, port
        self.token = token

    def client(self) -> aiohttp.ClientSession:
        headers = {"authorization": f"Bearer {self.token}"}
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        return aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers, timeout=timeout)

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def head(self, *lines: str, path: str = "/v1/body") -> bytes:
        told = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.token}", *lines]
        return "\r\n".join([*told, "", ""]).encode()


@asynccontextmanager
async def house_of(places: Places | None = None, **api: Any) -> AsyncIterator[House]:
    settings = Settings.model_validate({"api": {"max_body_bytes": 65_536, "console": False, **api}})
    engine = Engine(policy=Policy(rules=()), store=MemoryStore())
    path = Path("reputon.toml")
    surroundings = Surroundings(
        engine=engine,
        settings=settings,
        path=path,
        gate=Gate(engine),
        desk_of=lambda author: EngineDesk(engine, author, settings=settings, path=path),
    )
    text, token = new_token("admin", now=time.time())
    engine.registrar.tokens[token.token_id] = token
    listening = socket.create_server(("127.0.0.1", 0))
    app = application(surroundings)
    server = Server(config_of(app, None), places)
    serving = asyncio.create_task(server.serve([listening]))
    await server.has_started.wait()
    try:
        yield House(server, app, surroundings, listening.getsockname()[1], text)
    finally:
        surroundings.stopping.set()
        server.should_exit = True
        await serving


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with house_of() as house:

        async def body(request: Request) -> Response:
            return Response(str(len(await request.body())))

        house.app.add_api_route("/v1/body", body, methods=["POST"])
        yield house


def raising(house: House, error: Exception) -> None:
    async def raised() -> None:
        raise error

    house.app.add_api_route("/v1/raises", raised)


# Mistakes


@pytest.mark.parametrize(
    ("error", "status", "kind", "errors"),
    [
        (
            ConfigError('n: from 1 to 1000\n"x" is none of these: a, b'),
            400,
            "bad-request",
            [{"where": "n", "what": "from 1 to 1000"}, {"where": "", "what": '"x" is none of these: a, b'}],
        ),
        (ConfigError("limits: \udce9"), 400, "bad-request", [{"where": "limits", "what": "\udce9"}]),
        (NothingThere("there is no entry"), 404, "not-there", None),
        (StoreUnavailable("at 192.0.2.1:6379"), 503, "store-away", None),
        (StoreMisuse("192.0.2.1:6379: NOPERM"), 507, "store-refuses", None),
        (ZeroDivisionError("secret"), 500, "our-fault", None),
    ],
)
async def test_what_is_raised_is_a_problem(
    house: House, error: Exception, status: int, kind: str, errors: object, caplog: pytest.LogCaptureFixture
) -> None:
    raising(house, error)
    async with house.client() as asked, asked.get("/v1/raises") as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        body = await answer.json(content_type=None)
    assert (body["type"], body["title"], body["status"]) == (f"/problems/{kind}", kind.replace("-", " "), status)
    assert body.get("errors") == errors
    assert "secret" not in body["detail"]
    assert "192.0.2.1" not in body["detail"]
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == (status == 500)
    if traces:
        assert traces[0].getMessage() == "request 1: GET /v1/raises"
        assert caplog.text.count("ZeroDivisionError") == 1


async def test_what_breaks_in_the_middle_of_an_answer_is_cut_off_and_told_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    async def streamed() -> Response:
        return StreamingResponse(pieces())

    house.app.add_api_route("/v1/breaks", streamed)
    async with house.client() as asked:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asked.get("/v1/breaks") as answer:
                await answer.read()
    wait = [record for record in caplog.records if record.exc_info]
    assert len(wait) == 1
    assert "request 1: GET /v1/breaks" in caplog.text


async def test_what_cannot_be_routed_is_a_problem_too(api: Api, writing: aiohttp.ClientSession) -> None:
    for method, path, status, kind in (
        ("GET", "/v1/nothing", 404, "not-there"),
        ("DELETE", "/healthz", 405, "wrong-method"),
        ("PATCH", "/v1/bans", 405, "wrong-method"),
        ("GET", "/docs", 404, "not-there"),
        ("GET", "/redoc", 404, "not-there"),
        ("GET", "/v1/rules/", 404, "not-there"),
    ):
        async with writing.request(method, path, allow_redirects=False) as answer:
            body = await answer.json(content_type=None)
            assert (answer.status, body["type"]) == (status, f"/problems/{kind}"), (method, path)
            assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "where"),
    [("{", "body"), ("[]", "body"), ("{}", "body.target"), ('{"target": 1, "reason": "x"}', "body.target")],
)
async def test_a_body_that_cannot_be_right_is_a_mistake_that_says_where(
    api: Api, writing: aiohttp.ClientSession, body: str, where: str
) -> None:
    headers = {"content-type": "application/json"}
    async with writing.post("/v1/bans", data=body, headers=headers) as answer:
        said = await answer.json(content_type=None)
    assert (said["status"], said["type"]) == (400, "/problems/bad-request")
    assert where in [each["where"] for each in said["errors"]]


# Header fields


async def test_every_answer_forbids_to_guess_to_keep_and_to_frame(api: Api, reading: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/rules", "/v1/nothing", "/"):
        async with reading.get(path, allow_redirects=False) as answer:
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
            kept = answer.headers["cache-control"]
            assert kept == "no-store" or ("etag" in answer.headers and "no-cache" in kept), path
            assert "server" not in answer.headers


def test_what_the_server_says_by_itself_forbids_to_guess(own_process: Process) -> None:
    with socket.create_connection(("127.0.0.1", own_process.program.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"HELO reputon\r\n\r\n")
        said = client.recv(4_096).lower()
    assert said.startswith(b"http/1.1 400 ")
    assert b"x-content-type-options: nosniff" in said
    assert b"server:" not in said
    assert own_process.program.lines("Invalid HTTP") == []


async def test_a_field_of_an_answer_is_said_once() -> None:
    async with house_of(console=True) as house, house.client() as asked:
        for path, wanted in (("/healthz", "no-referrer"), ("/console/login", "same-origin")):
            async with asked.get(path) as answer:
                assert answer.headers.getall("referrer-policy") == [wanted]
                assert len({name.lower() for name in answer.headers}) == len(answer.headers), path


@pytest.mark.parametrize(("is_behind", "name"), [(True, "__Secure-reputon"), (False, "reputon")])
async def test_the_cookie_is_for_tls_alone_where_a_proxy_speaks_it(is_behind: bool, name: str) -> None:
    listen = ["192.0.2.1:8025" if is_behind else "127.0.0.1:8025"]
    async with house_of(console=True, plain_from_anywhere=is_behind, listen=listen) as house, house.client() as asked:
        form, door = {"token": house.token, FORM_FIELD: "x" * 43}, {"cookie": f"{DOOR}={'x' * 43}"}
        async with asked.post("/console/login", data=form, headers=door, allow_redirects=False) as answer:
            (cookie,) = [text for text in answer.headers.getall("set-cookie") if text.startswith(f"{name}=")]
            assert ("secure" in cookie.lower().replace("__secure-", "")) == is_behind


async def test_a_client_that_breaks_off_is_nobodys_news(house: House) -> None:
    """What uvloop raises of a connection that it knows to be closed, and the server does not know yet."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    exchange = Exchange({"type": "http", "headers": []}, receive, send, 1_000, house.surroundings.stopping)
    await exchange.send({"type": "http.response.start", "status": 200})
    await exchange.send({"type": "http.response.body", "body": b"x", "more_body": True})
    assert not exchange.is_open


async def test_what_the_store_refuses_is_told_where_it_is_about_what_was_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_register, "MAX_REGISTERED", 1)
    async with house.client() as asked:
        statuses = []
        for target in ("ip:192.0.2.7", "ip:192.0.2.8"):
            async with asked.post("/v1/bans", json={"target": target, "reason": "a test"}) as answer:
                body = await answer.json(content_type=None)
                statuses.append(answer.status)
        assert statuses == [201, 507]
        assert (body["type"], "retry-after" in answer.headers) == ("/problems/store-refuses", False)
        assert body["detail"] == "the register has 1 entries already: lift some"


async def test_a_store_that_refuses_us_makes_us_not_ready(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses() -> str:
        raise StoreMisuse("192.0.2.1:6379: NOAUTH")

    monkeypatch.setattr(house.surroundings.engine.store, "ping", refuses)
    async with house.client() as asked, asked.get("/readyz") as answer:
        assert answer.status == 503
        assert "192.0.2.1" not in await answer.text()


# Bounds


async def answer_on(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of one answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), fields, await reader.readexactly(int(fields["content-length"]))


async def test_a_body_may_be_as_long_as_the_settings_say(house: House) -> None:
    async with house.client() as asked:
        async with asked.post("/v1/body", data=b"x" * 65_536) as answer:
            assert (answer.status, await answer.text()) == (200, "65536")

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b"x" * 1_024

        async with asked.post("/v1/body", data=pieces()) as answer:
            assert (answer.status, await answer.text()) == (200, "65536")


@pytest.mark.parametrize("length", ["65537", "9" * 50, "-1", "abc"])
async def test_a_body_that_is_said_to_be_longer_is_not_read(house: House, length: str) -> None:
    reader, writer = await house.connected()
    writer.write(house.head(f"Content-Length: {length}", "Content-Type: application/json"))
    status, fields, body = await answer_on(reader)
    if length.isdigit() and len(length) < 20:
        assert (status, fields["connection"]) == (413, "close")
        assert json.loads(body)["type"] == "/problems/too-large"
        assert await reader.read() == b""
    else:  # the server does not let it come so far
        assert status in (400, 413)
    writer.close()


async def test_a_body_in_pieces_is_counted_as_it_comes(house: House) -> None:
    reader, writer = await house.connected()
    writer.write(house.head("Transfer-Encoding: chunked", "Content-Type: application/json"))
    for _ in range(65):
        writer.write(b"400\r\n" + b"x" * 1_024 + b"\r\n")
    status, fields, body = await answer_on(reader)
    assert (status, fields["connection"]) == (413, "close")
    assert json.loads(body)["type"] == "/problems/too-large"
    writer.close()


@pytest.mark.parametrize("path", ["/console/login", "/v1/bans", "/healthz"])
async def test_what_is_no_check_has_a_small_body(path: str) -> None:
    async with house_of(max_body_bytes=2**21, console=True) as house:
        reader, writer = await house.connected()
        writer.write(house.head(f"Content-Length: {SMALL_OCTETS + 1}", path=path))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_a_form_in_pieces_is_counted_as_it_comes() -> None:
    async with house_of(max_body_bytes=2**21, console=True) as house:
        reader, writer = await house.connected()
        kind = "Content-Type: application/x-www-form-urlencoded"
        writer.write(house.head("Transfer-Encoding: chunked", kind, path="/console/login"))
        writer.write(b"%x\r\n" % (SMALL_OCTETS + 1) + b"x" * (SMALL_OCTETS + 1) + b"\r\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed, in whichever way."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with suppress(ConnectionError):
            return await reader.read()
    return b""


async def test_a_head_is_bounded(house: House) -> None:
    reader, writer = await house.connected()
    writer.write(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * protocol.MAX_HEAD_OCTETS)
    assert (await rest_of(reader)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    reader, writer = await house.connected()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 60_000 + b"\r\n\r\n")
    assert (await answer_on(reader))[0] == 200
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: ",
        b"POST /v1/body HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 10\r\n\r\nx",
    ],
)
async def test_whoever_keeps_us_waiting_is_cut_off(house: House, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("HEAD_SECONDS", 0.2), ("REQUEST_SECONDS", 0.4), ("SWEEP_SECONDS", 0.05)):
        monkeypatch.setattr(protocol, name, seconds)
    sweeping = asyncio.create_task(cut_off_late(house.server.server_state.connections))
    reader, writer = await house.connected()
    writer.write(sent.replace(b"{token}", house.token.encode()))
    assert await rest_of(reader) == b""
    sweeping.cancel()
    writer.close()


async def test_whoever_waits_for_us_is_not_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("HEAD_SECONDS", 0.1), ("REQUEST_SECONDS", 0.1), ("SWEEP_SECONDS", 0.02)):
        monkeypatch.setattr(protocol, name, seconds)

    async def slow() -> Response:
        await asyncio.sleep(0.5)  # longer than anybody may keep us waiting
        return Response("slow")

    house.app.add_api_route("/v1/slow", slow, methods=["POST"])
    sweeping = asyncio.create_task(cut_off_late(house.server.server_state.connections))
    async with house.client() as asked:
        for _ in range(2):  # on one connection, which rests in between
            async with asked.post("/v1/slow", data=b"x") as answer:
                assert await answer.text() == "slow"
    sweeping.cancel()


@pytest.mark.parametrize("asked_for", [1, 100])
async def test_whoever_takes_nothing_is_cut_off(house: House, asked_for: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("TAKING_SECONDS", 0.3), ("SWEEP_SECONDS", 0.05)):
        monkeypatch.setattr(protocol, name, seconds)

    async def large() -> Response:
        return Response(b"x" * 2**24)

    house.app.add_api_route("/v1/large", large, methods=["POST"])
    sweeping = asyncio.create_task(cut_off_late(house.server.server_state.connections))
    with socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(house.head("Content-Length: 0", path="/v1/large") * asked_for)
        await until(lambda: house.server.places.taken == 1)
        await until(lambda: not house.server.server_state.connections)
        await until(lambda: house.server.places.taken == 0)
    sweeping.cancel()


async def test_whoever_takes_it_slowly_is_not_cut_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("TAKING_SECONDS", 0.4), ("SWEEP_SECONDS", 0.02)):
        monkeypatch.setattr(protocol, name, seconds)

    async def large() -> Response:
        return Response(b"x" * 2**24)

    house.app.add_api_route("/v1/large", large, methods=["POST"])
    sweeping = asyncio.create_task(cut_off_late(house.server.server_state.connections))
    reader, writer = await house.connected()
    writer.write(house.head("Content-Length: 0", path="/v1/large"))
    taken, began = 0, time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while taken < 2**24:
            taken += len(await reader.readexactly(min(2**20, 2**24 - taken)))
            await asyncio.sleep(0.06)
    assert time.monotonic() - began > 0.8
    sweeping.cancel()
    writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so, while the server goes on."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def test_one_connection_too_many_is_closed_at_once_and_there_is_room_when_another_has_gone() -> None:
    places = Places(2)
    async with house_of(places) as house:
        opened = [await house.connected() for _ in range(2)]
        await until(lambda: places.taken == 2)
        reader, writer = await house.connected()
        assert await rest_of(reader) == b""
        writer.close()
        opened[0][1].close()
        await until(lambda: places.taken == 1)
        async with house.client() as asked:
            assert await status_of(asked, "/healthz") == 200
        opened[1][1].close()


# Its end


async def test_a_stream_ends_in_good_order_when_the_process_does(own_api: Api) -> None:
    async with own_api.client(await own_api.token("read")) as asked, asked.get("/v1/stream") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        reading = asyncio.create_task(answer.read())
        began = time.monotonic()
        assert await own_api.stop() == 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reading  # raises when it was cut off
        assert time.monotonic() - began < 4.0
    assert own_api.program.lines("Traceback") == []
    assert own_api.program.lines("ERROR") == []


async def test_a_request_that_is_under_way_is_answered_and_nobody_new_is_let_in(own_api: Api) -> None:
    token = await own_api.token("write")
    body = json.dumps({"target": "ip:192.0.2.7", "reason": "a test"})
    head = [
        "POST /v1/bans HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", own_api.program.port)
    writer.write("\r\n".join([*head, "", body[:10]]).encode())
    await writer.drain()
    await wait_for(lambda: own_api.engine.registrar.tokens != {})
    os.kill(own_api.program.pid, signal.SIGTERM)
    await wait_for(lambda: not listens(own_api.program.port))
    writer.write(body[10:].encode())
    status, fields, _ = await answer_on(reader)
    assert (status, fields["connection"]) == (201, "close")
    writer.close()
    await wait_for(own_api.program.ended)
    assert await own_api.stop() == 0
    assert own_api.program.lines("draining 1 requests")


async def wait_for(condition: Any) -> None:
    """As `wait_until`, and the loop goes on."""
    await asyncio.to_thread(wait_until, condition, "it is so")


async def test_a_request_that_does_not_end_does_not_keep_the_process(own_api: Api) -> None:
    token = await own_api.token("write")
    reader, writer = await asyncio.open_connection("127.0.0.1", own_api.program.port)
    head = f"POST /v1/bans HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n"
    writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode())
    await writer.drain()
    await until_served(own_api)
    began = time.monotonic()
    os.kill(own_api.program.pid, signal.SIGTERM)
    await wait_for(own_api.program.ended)
    assert time.monotonic() - began < 8.0
    assert await own_api.stop() == 0
    status, fields, body = await answer_on(reader)
    assert (status, fields["retry-after"], json.loads(body)["type"]) == (503, "1", "/problems/ending")
    assert own_api.program.lines("Traceback") == []
    writer.close()


async def until_served(api: Api) -> None:
    async with api.client() as anybody:
        await until_answer(anybody, "/healthz", lambda status: status == 200)


# What cannot be started


def outcome(directory: Path, table: str, *options: str) -> tuple[int, list[str]]:
    """Exit status, and what was said besides lines of the log."""
    config = f'[store]\nurl = "memory:"\n{table}'
    (directory / "reputon.toml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "api", "--config", "reputon.toml", *options]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)
    said = (result.stdout + result.stderr).splitlines()
    return result.returncode, [line for line in said if " INFO " not in line]


def test_a_port_that_is_taken_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = f"reputon.toml: [api] listen: cannot listen on {address}: Address already in use"
        assert outcome(tmp_path, f'[api]\nlisten = ["{address}"]') == (1, [said])
        assert outcome(tmp_path, f'[api]\nlisten = ["127.0.0.1:0", "{address}"]') == (1, [said])


def test_mistakes_in_the_configuration_are_exit_status_1(tmp_path: Path) -> None:
    said = ["reputon.toml: [api] listen: name at least 1 address to listen on"]
    assert outcome(tmp_path, "[api]\nlisten = []") == (1, said)
    assert outcome(tmp_path, "[api]\nport = 1", "--check") == (1, ["reputon.toml: [api] port: unknown key"])
    assert outcome(tmp_path, "[api]\nlisten = []", "--check") == (0, [])


def test_it_listens_on_all_addresses_that_are_named(tmp_path: Path, valkey: RedisServer) -> None:
    config = f'[store]\nurl = "{valkey.url}"\nprefix = "{tmp_path.name}"\n[api]\nlisten = ["127.0.0.1:0", "[::1]:0"]'
    with running(api_program(tmp_path / "api", config)) as program:
        assert len(program.lines("ready api 127.0.0.1:")) == 1
        (six,) = program.lines("ready api [::1]:")
        with socket.create_connection(("::1", int(six.rpartition(":")[2])), timeout=PATIENCE_SECONDS):
            pass
        assert program.stop() == 0


# Reloads

STRICT = """
[[rule]]
name = "new-rule"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "tempfail"
"""


async def rules_of(asked: aiohttp.ClientSession) -> list[str]:
    async with asked.get("/v1/rules") as answer:
        return [each["rule"] for each in (await answer.json())["rules"]]


async def test_sighup_has_the_rules_read_anew_unless_they_cannot_be_read(own_api: Api) -> None:
    program, config = own_api.program, own_api.program.config.read_text(encoding="utf-8")
    async with own_api.client(await own_api.token("read")) as asked:
        assert "new-rule" not in await rules_of(asked)
        program.config.write_text(config.replace("[api]", "[api]\nmax_streams = 7") + STRICT, encoding="utf-8")
        os.kill(program.pid, signal.SIGHUP)
        await wait_for(lambda: program.lines("reloaded: 29 rules"))
        assert "new-rule" in await rules_of(asked)
        await wait_for(lambda: program.lines("[api] has changed: that takes effect at the next start"))
        program.config.write_text(config + STRICT.replace("1/1h", "often"), encoding="utf-8")
        os.kill(program.pid, signal.SIGHUP)
        await wait_for(lambda: program.lines("not reloaded, the rules stay as they were"))
        assert "new-rule" in await rules_of(asked)
    assert program.lines("Traceback") == []


async def test_an_operators_word_has_every_program_of_the_fleet_read_its_rules_anew(
    own_api: Api, tmp_path: Path
) -> None:
    config = front_end_config(own_api.store.url)
    with (
        running(front_end(tmp_path / "front", config)) as front,
        running(front_end(tmp_path / "workers", config, "--workers", "2")) as workers,
    ):
        for program in (front, workers):
            program.config.write_text(config + STRICT, encoding="utf-8")
        await own_api.engine.registrar.remark(RELOAD, "all", author="tests", reason="new rules")
        await wait_for(lambda: own_api.program.lines("reloaded: 28 rules"))
        await wait_for(lambda: front.lines("reloaded: 2 rules"))
        await wait_for(lambda: len(workers.lines("reloaded: 2 rules")) == 2)
    async with own_api.client(await own_api.token("admin")) as asked:
        assert await status_of(asked, "/v1/rules/reload", "POST", json={"reason": "once more"}) == 200
        await wait_for(lambda: len(own_api.program.lines("reloaded: 28 rules")) == 2)


# systemd


def test_systemd_is_told_when_it_is_ready_when_it_reloads_and_when_it_stops(tmp_path: Path) -> None:
    told = Told(f"{tmp_path}/notify")
    port = free_port()
    config = f'[store]\nurl = "memory:"\n[api]\nlisten = ["127.0.0.1:{port}"]'
    command: list[str | Path] = [sys.executable, "-m", "api"]
    ready = r"(?m)^ready api \S+:(\d+)\nready$"
    with running(Unit(command, tmp_path / "unit", config, told=told, watchdog_seconds=1.0, ready=ready)) as unit:
        wait_until(lambda: told.states == ["READY"], "it is ready")
        assert told.messages[0]["STATUS"] == f"ready on api 127.0.0.1:{port}"
        os.kill(unit.pid, signal.SIGHUP)
        wait_until(lambda: told.states == ["READY", "RELOADING", "READY"], "it has reloaded")
        wait_until(lambda: told.heartbeats() > 1, "it says that it is alive")
        assert unit.stop() == 0
    assert told.states[3:] == ["STOPPING"]
    told.close()
