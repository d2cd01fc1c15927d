"""Getting in: sockets, TLS, users, databases; and what is said about a server that does not let us in, or refuses."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store import functions
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS, count_of, eventually, one_of, user
from tests.servers import RedisServer, redis_server, redis_server_tls, valkey_server

STARTERS = {"redis": redis_server, "valkey": valkey_server}
ALLOWED = ("~*", "+@read", "+@write", "+ping", "+info", "+time")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Servers that end with the test."""
    with ExitStack() as entered:
        yield entered


def as_user(server: RedisServer, userinfo: str) -> str:
    return server.url.replace("://", f"://{userinfo}@")


# Ways in


async def test_over_a_unix_socket(server: RedisServer, open_store: OpenStore) -> None:
    store = open_store(server.unix_url, deadline_seconds=PATIENCE_SECONDS)
    assert (await store.decide([one_of(user(1))])).allowed
    assert await count_of(open_store(server.url, deadline_seconds=PATIENCE_SECONDS), user(1)) == 1


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    with redis_server_tls("--tls-auth-clients", "optional") as started:
        yield started


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_over_tls(tls_server: RedisServer, open_store: OpenStore, host: str) -> None:
    store = open_store(tls_server.url.replace("127.0.0.1", host), deadline_seconds=PATIENCE_SECONDS)
    answers = await asyncio.gather(*(store.decide([one_of(user(1))]) for _ in range(1_000)))
    assert sorted(answer.readings[0][0][0].count for answer in answers) == list(range(1, 1_001))


async def test_tls_refuses_whom_it_does_not_know_unless_told_not_to_look(
    tls_server: RedisServer, open_store: OpenStore
) -> None:
    unknown = open_store(f"rediss://127.0.0.1:{tls_server.port}")
    with pytest.raises(StoreUnavailable, match=r"cannot connect.*CERTIFICATE_VERIFY_FAILED"):
        await unknown.ping()
    careless = open_store(f"rediss://127.0.0.1:{tls_server.port}?verify=no")
    assert (await careless.ping()).startswith("Redis ")


async def test_tls_with_a_certificate_of_ours(open_store: OpenStore) -> None:
    with redis_server_tls("--tls-auth-clients", "yes") as server:
        assert server.tls is not None
        with pytest.raises(StoreUnavailable):
            await open_store(server.url).ping()
        named = f"{server.url}&cert={server.tls.certificate}&key={server.tls.key}"
        assert (await open_store(named).ping()).startswith("Redis ")


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(server: RedisServer, open_store: OpenStore) -> None:
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await open_store(server.url.replace("redis://", "rediss://") + "?verify=no").ping()


async def test_with_a_password(kind: str, stack: ExitStack, open_store: OpenStore) -> None:
    server = stack.enter_context(STARTERS[kind]("--requirepass", "s3/cr@t"))
    assert await open_store(as_user(server, ":s3%2Fcr%40t")).ping()
    with pytest.raises(StoreMisuse, match=r"NOAUTH.*\(the server wants a password: redis://USER:PASSWORD@HOST"):
        await open_store(server.url).ping()
    with pytest.raises(StoreMisuse, match=r"WRONGPASS.*\(user or password are wrong\)") as caught:
        await open_store(as_user(server, ":guess-me")).decide([one_of(user(1))])
    assert "guess-me" not in str(caught.value)


async def test_as_a_user_with_just_the_permissions_that_it_needs(
    server: RedisServer, open_store: OpenStore, prefix: str
) -> None:
    words = (f"~{prefix}:*", *ALLOWED[1:], "+fcall", "+function|load")
    server.command("ACL", "SETUSER", prefix, "reset", "on", ">pw", *words)
    store = open_store(as_user(server, f"{prefix}:pw"), deadline_seconds=PATIENCE_SECONDS)
    assert await store.ping()
    assert (await store.decide([one_of(user(1))])).allowed
    assert [series.count for series in await store.series(user(1).entity)] == [1]


async def test_as_a_user_without_a_password(server: RedisServer, open_store: OpenStore, prefix: str) -> None:
    server.command("ACL", "SETUSER", prefix, "reset", "on", "nopass", *ALLOWED, "+@all")
    assert await open_store(as_user(server, prefix)).ping()
    assert prefix.encode() in server.command("ACL", "LIST").__repr__().encode()
    server.command("ACL", "SETUSER", prefix, "off")
    with pytest.raises(StoreMisuse, match="WRONGPASS"):
        await open_store(as_user(server, prefix)).ping()


async def test_in_another_database(server: RedisServer, open_store: OpenStore, prefix: str) -> None:
    store = open_store(f"{server.url}/5", deadline_seconds=PATIENCE_SECONDS)
    await store.decide([one_of(user(1))])
    assert await count_of(open_store(server.url, deadline_seconds=PATIENCE_SECONDS), user(1)) == 0
    with server.client() as client:
        client.select(5)
        assert client.exists(user(1).spelled(prefix))
    with pytest.raises(StoreMisuse, match="DB index is out of range"):
        await open_store(f"{server.url}/99").ping()


# What is refused


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), r"NOPERM.*fcall.*it needs: ~PREFIX:\* \+@read \+@write \+fcall"),
        (("+function|load",), r"NOPERM.*fcall.*it needs"),
        (("+fcall",), ""),
    ],
)
async def test_a_user_who_may_not_call_functions_is_told_at_the_start(
    server: RedisServer, open_store: OpenStore, prefix: str, words: tuple[str, ...], complaint: str
) -> None:
    """The functions are there already: whoever may call them need not load them."""
    await open_store(server.url).ping()
    server.command("ACL", "SETUSER", prefix, "reset", "on", ">pw", *ALLOWED, *words)
    store = open_store(as_user(server, f"{prefix}:pw"))
    if not complaint:
        assert await store.ping()
        return
    with pytest.raises(StoreMisuse, match=complaint):
        await store.ping()
    with pytest.raises(StoreMisuse, match=complaint):
        await store.decide([one_of(user(1))])


async def test_functions_that_are_missing_and_may_not_be_loaded(
    kind: str, stack: ExitStack, open_store: OpenStore, prefix: str
) -> None:
    server = stack.enter_context(STARTERS[kind]())
    server.command("ACL", "SETUSER", prefix, "reset", "on", ">pw", *ALLOWED, "+fcall", "-function|load")
    url = as_user(server, f"{prefix}:pw")
    with pytest.raises(StoreMisuse, match=r"NOPERM.*function\|load.*it needs: .*\+function\|load"):
        await open_store(url).ping()
    server.command("FUNCTION", "LOAD", functions.SOURCE)  # an administrator does
    store = open_store(url, deadline_seconds=PATIENCE_SECONDS)
    assert await store.ping()
    server.command("FUNCTION", "FLUSH")
    with pytest.raises(StoreMisuse, match=r"NOPERM.*function\|load"):
        await store.decide([one_of(user(1))])


@pytest.mark.parametrize("command", ["FCALL", "FUNCTION"])
async def test_commands_that_were_taken_away_are_named_at_the_start(
    kind: str, stack: ExitStack, open_store: OpenStore, command: str
) -> None:
    server = stack.enter_context(STARTERS[kind]("--rename-command", command, ""))
    with pytest.raises(StoreMisuse, match=rf"unknown command '{command}'.*is disabled: use Redis 7.0 or Valkey 8"):
        await open_store(server.url).ping()


async def test_functions_that_go_while_mail_flows_are_loaded_within_the_decision(
    kind: str, stack: ExitStack, open_store: OpenStore
) -> None:
    server = stack.enter_context(STARTERS[kind]())
    store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    answered = []
    for _ in range(10):
        server.command("FUNCTION", "FLUSH")
        answered += await asyncio.gather(*(store.decide([one_of(user(1))]) for _ in range(50)))
    assert sorted(answer.readings[0][0][0].count for answer in answered) == list(range(1, 501))


async def test_a_full_server_refuses_without_charging_and_goes_on_when_there_is_room(
    kind: str, stack: ExitStack, open_store: OpenStore
) -> None:
    server = stack.enter_context(STARTERS[kind]("--maxmemory-policy", "noeviction"))
    store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.decide([one_of(user(1))])
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreMisuse, match=r"OOM.*\(the server is out of memory: raise maxmemory\)"):
        await store.decide([one_of(user(1))])
    with pytest.raises(StoreMisuse, match="OOM"):
        await open_store(server.url).ping()
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert (await store.decide([one_of(user(1))])).readings[0][0][0].count == 2


async def test_a_replica_is_read_only(kind: str, stack: ExitStack, open_store: OpenStore) -> None:
    primary = stack.enter_context(STARTERS[kind]())
    replica = stack.enter_context(STARTERS[kind]("--replicaof", f"127.0.0.1 {primary.port}"))
    store = open_store(replica.url, deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(StoreUnavailable, match="READONLY"):
        await store.decide([one_of(user(1))])
    replica.command("REPLICAOF", "NO", "ONE")
    assert (await eventually(lambda: store.decide([one_of(user(1))]))).allowed


async def test_a_server_that_is_loading_is_waited_for(kind: str, stack: ExitStack, open_store: OpenStore) -> None:
    slowly = ("--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024")
    server = stack.enter_context(STARTERS[kind]("--enable-debug-command", "yes", *slowly))
    server.command("DEBUG", "POPULATE", 1_500)
    server.command("SAVE")
    server.kill()
    server.launch()
    seen: set[str] = set()

    async def ask() -> None:
        try:
            await store.decide([one_of(user(1))])
        except StoreError as error:
            assert isinstance(error, StoreUnavailable)
            seen.add("LOADING" if "LOADING" in str(error) else "")
            raise

    store = open_store(server.url)
    await eventually(ask)
    assert "LOADING" in seen
