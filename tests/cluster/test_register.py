"""Bans across processes of a fleet: in force and lifted on all of them within a second, whatever is in the way."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.clusters import ClusterServers
from tests.servers import RedisServer, redis_server, wait_until

CLIENT = "192.0.2.7"
WITHIN_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
MINUTE = 60.0


class Member:
    """A process of the fleet (`tests.cluster.engine_process`)."""

    def __init__(self, url: str, prefix: str, off_by_seconds: float = 0.0) -> None:
        command = [sys.executable, "-m", "tests.cluster.engine_process", url, prefix, str(off_by_seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process has ended with {self._process.wait()}"
        return json.loads(line)

    def ask(self, *command: object) -> Any:
        self.tell(*command)
        return self.hear()

    def end(self) -> None:
        """It must end by itself, and at once, when nobody asks any more."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                assert process.wait(PATIENCE_SECONDS) == 0
            finally:
                process.kill()


@contextmanager
def fleet(url: str, prefix: str, *off_by_seconds: float) -> Iterator[list[Member]]:
    members = [Member(url, prefix, off) for off in off_by_seconds]
    try:
        assert [member.hear() for member in members] == [["ready"]] * len(members)
        yield members
    finally:
        for member in members:
            member.end()


def seconds_until(asked: Member, reason: str, doer: Member, *command: object) -> float:
    """How long it takes until one process judges so, after another one was told to do something."""
    asked.tell("until", CLIENT, reason, PATIENCE_SECONDS)
    answer = doer.ask(*command)
    assert not isinstance(answer, dict), answer
    seconds = asked.hear()
    assert seconds is not None, f"not {reason} within {PATIENCE_SECONDS:g} s"
    return float(seconds)


def test_pitfall_20_a_ban_is_in_force_and_lifted_everywhere_within_a_second(
    redis_cluster_7: ClusterServers, prefix: str
) -> None:
    with fleet(redis_cluster_7.url, prefix, 0.0, 0.0) as (one, other):
        for doer, asked in ((one, other), (other, one)):
            assert seconds_until(asked, "banned", doer, "put", "ip:192.0.2.0/24", None) < WITHIN_SECONDS
            assert [member.ask("judge", CLIENT) for member in (one, other)] == [["reject", "banned"]] * 2
            assert seconds_until(asked, "no-rule", doer, "lift", "ban|ip:192.0.2.0/24") < WITHIN_SECONDS
            assert [member.ask("judge", CLIENT)[0] for member in (one, other)] == ["accept", "accept"]


def test_a_process_that_starts_later_knows_from_its_first_event(redis_cluster_7: ClusterServers, prefix: str) -> None:
    with fleet(redis_cluster_7.url, prefix, 0.0) as (one,):
        one.ask("put", "ip:192.0.2.0/24", None)
        with fleet(redis_cluster_7.url, prefix, 0.0) as (late,):
            assert late.ask("judge", CLIENT) == ["reject", "banned"]


@contextmanager
def without_pub_sub(servers: list[RedisServer]) -> Iterator[None]:
    """Nobody may listen or publish any more; who listens already is thrown out."""
    try:
        for server in servers:
            server.command("ACL", "SETUSER", "default", "resetchannels")
        yield
    finally:
        for server in servers:
            server.command("ACL", "SETUSER", "default", "allchannels")


def listeners(servers: list[RedisServer]) -> int:
    return sum(len(server.command("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) for server in servers)


def test_what_is_not_told_is_found_out_within_a_second(redis_cluster_7: ClusterServers, prefix: str) -> None:
    servers: list[RedisServer] = list(redis_cluster_7.servers)
    with fleet(redis_cluster_7.url, prefix, 0.0, 0.0) as (one, other):
        wait_until(lambda: listeners(servers) == 2, "both listen")
        with without_pub_sub(servers):
            wait_until(lambda: listeners(servers) == 0, "nobody listens")
            assert seconds_until(other, "banned", one, "put", "ip:192.0.2.0/24", None) < WITHIN_SECONDS
            assert seconds_until(one, "no-rule", other, "lift", "ban|ip:192.0.2.0/24") < WITHIN_SECONDS
        wait_until(lambda: listeners(servers) == 2, "both listen again")


def test_listeners_that_are_thrown_out_again_and_again_miss_nothing(
    redis_cluster_7: ClusterServers, prefix: str
) -> None:
    servers: list[RedisServer] = list(redis_cluster_7.servers)
    with fleet(redis_cluster_7.url, prefix, 0.0, 0.0) as (one, other):
        for _ in range(5):
            for server in servers:
                server.command("CLIENT", "KILL", "TYPE", "pubsub")
            assert seconds_until(other, "banned", one, "put", "ip:192.0.2.0/24", None) < WITHIN_SECONDS
            for server in servers:
                server.command("CLIENT", "KILL", "TYPE", "pubsub")
            assert seconds_until(other, "no-rule", one, "lift", "ban|ip:192.0.2.0/24") < WITHIN_SECONDS


def test_without_the_store_the_last_snapshot_stays(prefix: str) -> None:
    with redis_server() as server, fleet(server.url, prefix, 0.0, 0.0) as (one, other):
        assert seconds_until(other, "banned", one, "put", "ip:192.0.2.0/24", None) < WITHIN_SECONDS
        server.kill()
        for member in (one, other):
            wait_until(lambda member=member: member.ask("failures") > 0, "it is noticed")  # type: ignore[misc]  # a lambda with a default
            assert member.ask("judge", CLIENT) == ["reject", "banned"]
        assert "error" in one.ask("put", "ip:198.51.100.0/24", None)


@pytest.mark.parametrize("off_by_seconds", [-MINUTE, MINUTE])
def test_a_process_whose_clock_is_a_minute_off_decides_alike(
    redis_cluster_7: ClusterServers, prefix: str, off_by_seconds: float
) -> None:
    with fleet(redis_cluster_7.url, prefix, 0.0, off_by_seconds) as (right, wrong):
        for doer in (right, wrong):
            for asked in (right, wrong):
                doer.ask("put", "ip:192.0.2.0/24", 1.0)
                asked.tell("until", CLIENT, "banned", PATIENCE_SECONDS)
                assert asked.hear() < WITHIN_SECONDS
                asked.tell("until", CLIENT, "no-rule", PATIENCE_SECONDS)
                assert 0.2 < asked.hear() < 1.0 + WITHIN_SECONDS
