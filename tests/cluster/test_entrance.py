"""Getting in: sockets, TLS, users, databases; and what is said about a server that does not let us in, or refuses."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, aclosing

import pytest

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store import functions
from reputation.store.node import PERMISSIONS
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS, count_of, eventually, one_of, user
from tests.clusters import ClusterServers
from tests.servers import RedisServer, redis_server, redis_server_tls, valkey_server

STARTERS = {"redis": redis_server, "valkey": valkey_server}
ALLOWED = ("~*", "+@read", "+@write", "+ping", "+info", "+time")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Servers that end with the test."""
    with ExitStack() as entered:
        yield entered


@pytest.fixture(params=["redis_cluster_7", "valkey_cluster_9"])
def cluster(request: pytest.FixtureRequest) -> ClusterServers:
    """A cluster that all tests share."""
    shared: ClusterServers = request.getfixturevalue(request.param)
    return shared


def as_user(server: AnyServers, userinfo: str) -> str:
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
    with pytest.raises(StoreUnavailable, match=r"cannot connect.*CERTIFICATE_VERIFY_FAILED.*\(\?ca=FILE names the"):
        await unknown.ping()
    careless = open_store(f"rediss://127.0.0.1:{tls_server.port}?verify=no")
    assert (await careless.ping()).startswith("Redis ")


async def test_tls_with_a_certificate_of_ours(open_store: OpenStore) -> None:
    with redis_server_tls("--tls-auth-clients", "yes") as server:
        assert server.tls is not None
        with pytest.raises(StoreUnavailable, match=r"\(if it wants a certificate of ours: \?cert=FILE&key=FILE\)"):
            await open_store(server.url).ping()
        named = f"{server.url}&cert={server.tls.certificate}&key={server.tls.key}"
        assert (await open_store(named).ping()).startswith("Redis ")


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(server: RedisServer, open_store: OpenStore) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot connect.*\(if that port speaks no TLS: redis://\)"):
        await open_store(server.url.replace("redis://", "rediss://") + "?verify=no").ping()


async def test_a_server_with_tls_that_is_spoken_to_without_is_told_apart(
    tls_server: RedisServer, open_store: OpenStore
) -> None:
    with pytest.raises(StoreUnavailable, match=rf"{tls_server.port}: .*\(if that port speaks TLS: rediss://\)"):
        await open_store(f"redis://127.0.0.1:{tls_server.port}").ping()


async def test_a_certificate_for_another_name(tls_server: RedisServer, open_store: OpenStore) -> None:
    assert tls_server.tls is not None
    elsewhere = open_store(f"rediss://0.0.0.0:{tls_server.port}?ca={tls_server.tls.ca}")  # Linux: this machine
    with pytest.raises(StoreUnavailable, match=r"\(the certificate is for another name: write that one"):
        await elsewhere.ping()


async def test_with_a_password(kind: str, stack: ExitStack, open_store: OpenStore) -> None:
    server = stack.enter_context(STARTERS[kind]("--requirepass", "s3/cr@t"))
    assert await open_store(as_user(server, ":s3%2Fcr%40t")).ping()
    with pytest.raises(StoreMisuse, match=r"NOAUTH.*\(the server wants a password: redis://USER:PASSWORD@HOST"):
        await open_store(server.url).ping()
    with pytest.raises(StoreMisuse, match=r"WRONGPASS.*\(user or password are wrong\)") as caught:
        await open_store(as_user(server, ":guess-me")).decide([one_of(user(1))])
    assert "guess-me" not in str(caught.value)


async def test_as_a_user_with_just_the_permissions_that_it_needs(
    servers: AnyServers, open_store: OpenStore, prefix: str
) -> None:
    for server in servers.servers if isinstance(servers, ClusterServers) else (servers,):
        server.command("ACL", "SETUSER", prefix, "reset", "on", ">pw", *PERMISSIONS.replace("PREFIX", prefix).split())
        with server.client() as client:
            client.execute_command("AUTH", prefix, "pw")
            client.execute_command("ASKING" if isinstance(servers, ClusterServers) else "SELECT 1")
    store = open_store(as_user(servers, f"{prefix}:pw"), deadline_seconds=PATIENCE_SECONDS)
    assert await store.ping()
    assert (await store.decide([one_of(user(1))])).allowed
    assert [series.count for series in await store.series(user(1).entity)] == [1]
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(store.changes()) as changes:
        await anext(changes)  # it listens
        await store.enter("ban|ip:192.0.2.7", "{}", expires_us=None, line="{}")
        await anext(changes)


async def test_a_user_who_may_not_have_our_keys_is_told_at_the_start(
    servers: AnyServers, open_store: OpenStore, prefix: str
) -> None:
    await open_store(servers.url).ping()
    for server in servers.servers if isinstance(servers, ClusterServers) else (servers,):
        server.command("ACL", "SETUSER", prefix, "reset", "on", ">pw", "~other:*", "&*", "+@all")
    with pytest.raises(StoreMisuse, match=r"NOPERM.* key.*it needs: ~PREFIX:\*"):
        await open_store(as_user(servers, f"{prefix}:pw")).ping()


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
        ((), r"NOPERM.*fcall.*it needs: ~PREFIX:\* &PREFIX:\* \+@read \+@write \+fcall"),
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
    with pytest.raises(StoreUnavailable, match="the server is a replica: counting needs its primary"):
        await store.ping()
    replica.command("REPLICAOF", "NO", "ONE")
    assert (await eventually(lambda: store.decide([one_of(user(1))]))).allowed


async def test_a_server_of_a_cluster_is_not_used_alone(cluster: ClusterServers, open_store: OpenStore) -> None:
    with pytest.raises(StoreMisuse, match=r"\d: the server is part of a cluster: use redis\+cluster://$"):
        await open_store(cluster.servers[0].url).ping()


async def test_a_server_without_a_cluster_is_not_used_as_one(server: RedisServer, open_store: OpenStore) -> None:
    with pytest.raises(StoreMisuse, match=r"cluster support disabled \(.* use redis://\)"):
        await open_store(server.url.replace("redis://", "redis+cluster://")).ping()


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
