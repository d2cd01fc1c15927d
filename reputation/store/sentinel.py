"""Whom the Sentinels name as the primary of a group.

Sentinels can disagree for a while: one that is cut off still names the old primary. So all are asked at once, and what
more than half of them name is believed; without such a majority, what most name. (redis-py, by whose client each is
asked, would ask one after the other, and try each ten times: of three that hang a caller heard nothing for minutes.)
"""

import asyncio
from collections import Counter
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.node import CONNECT_SECONDS, error_of, hinted


async def primary_of(url: StoreUrl) -> Address:
    """The primary that most Sentinels of a URL name. Raises `StoreError` when nobody names any."""
    votes, errors = Counter[Address](), list[StoreError]()
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_named(sentinel, url)) for sentinel in url.addresses]
        for answered in asyncio.as_completed(asked):
            answer = await answered
            if isinstance(answer, StoreError):
                errors.append(answer)
                continue
            votes[answer] += 1
            if votes[answer] > len(asked) // 2:
                break
        for task in asked:
            task.cancel()
    if votes:
        return votes.most_common(1)[0][0]
    kind = StoreMisuse if all(isinstance(error, StoreMisuse) for error in errors) else StoreUnavailable
    raise kind("; ".join(map(str, errors)))


async def _named(sentinel: Address, url: StoreUrl) -> Address | StoreError:
    """The primary that a Sentinel names, or why it names none. It has no password, or the one of the servers."""
    try:
        try:
            return await _told(sentinel, url, {})
        except AuthenticationError:
            if not url.password:
                return error_of(str(sentinel), "NOAUTH Authentication required.")
            return await _told(sentinel, url, {"username": url.username or None, "password": url.password})
    except AuthenticationError:
        return error_of(str(sentinel), "WRONGPASS")
    except ResponseError as error:
        if "unknown command" in str(error):
            return StoreMisuse(f"{sentinel}: this is no Sentinel; they listen on port 26379 as a rule")
        return error_of(str(sentinel), str(error))
    except StoreError as error:
        return error
    except (AttributeError, TypeError, ValueError) as error:
        return StoreUnavailable(f"{sentinel}: this Sentinel talks nonsense: {error}")
    except (RedisError, OSError) as error:
        trouble = "no answer" if isinstance(error, TimeoutError) else str(error)
        return StoreUnavailable(f"{sentinel}: cannot connect: {hinted(trouble, url)}")


async def _told(sentinel: Address, url: StoreUrl, credentials: dict[str, str | None]) -> Address:
    times = {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
    options: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), **times, **credentials}
    kind = Connection if url.tls is None else SSLConnection
    connection: Any = kind(host=sentinel.host, port=sentinel.port, **options, **_tls_options(url))
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
            named = await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
    if named is None:
        raise StoreMisuse(f"{sentinel}: this Sentinel knows no group {url.service!r}")
    host, port = named
    return Address.told(host.decode(), int(port))


def _tls_options(url: StoreUrl) -> dict[str, Any]:
    if url.tls is None:
        return {}
    of = url.tls_options
    trusting = of.get("verify") == "no"
    return {
        "ssl_ca_certs": of.get("ca"),
        "ssl_certfile": of.get("cert"),
        "ssl_keyfile": of.get("key"),
        "ssl_cert_reqs": "none" if trusting else "required",
        "ssl_check_hostname": not trusting,
    }
