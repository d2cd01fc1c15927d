"""Sockets: bound as the settings name them, shared with workers, given by systemd, and taken away again."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reputation.config import Settings
from reputation.errors import ConfigError
from smtp_frontend.listeners import Kind, Listener, adopted, bind, close, doubled, handed_down, inherited, opened


def settings_of(*smtp: str, policy: tuple[str, ...] = ()) -> Settings:
    return Settings.model_validate(
        {"smtp": {"listen": smtp, "relay_domains": ["*"]}, "policy_service": {"listen": policy}}
    )


@contextmanager
def bound(settings: Settings, *, reuse_port: bool = False) -> Iterator[list[Listener]]:
    listeners = bind(settings, reuse_port=reuse_port)
    try:
        yield listeners
    finally:
        close(listeners)


def can_connect(listener: Listener) -> bool:
    with socket.socket(listener.socket.family) as client:
        try:
            client.connect(listener.socket.getsockname())
        except OSError:
            return False
        return True


def test_every_address_is_listened_on_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    settings = settings_of("127.0.0.1:0", "[::1]:0", policy=("127.0.0.2:0", f"unix:{path}"))
    with bound(settings) as listeners:
        assert [each.kind for each in listeners] == [Kind.SMTP, Kind.SMTP, Kind.POLICY, Kind.POLICY]
        ports = [each.socket.getsockname()[1] for each in listeners[:3]]
        assert [each.name for each in listeners] == [
            f"127.0.0.1:{ports[0]}",
            f"[::1]:{ports[1]}",
            f"127.0.0.2:{ports[2]}",
            f"unix:{path}",
        ]
        assert all(map(can_connect, listeners))


def test_ipv4_and_ipv6_may_have_the_same_port() -> None:
    with bound(settings_of("0.0.0.0:0")) as [first]:
        port = first.socket.getsockname()[1]
        with bound(settings_of(f"[::]:{port}")) as [second]:
            assert second.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_name_is_bound_at_the_addresses_that_this_machine_has() -> None:
    with bound(settings_of("localhost:0")) as listeners:
        assert {each.name.rpartition(":")[0] for each in listeners} <= {"127.0.0.1", "[::1]"}
        assert all(map(can_connect, listeners))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.1:25", "Cannot assign requested address"),
        ("no-such-host.invalid:25", "(Name or service not known|Temporary failure in name resolution)"),
    ],
)
def test_an_address_that_cannot_be_had_is_a_mistake_and_nothing_stays_open(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[smtp\] listen: cannot listen on {address}: {reason}$"):
        bind(settings_of("127.0.0.1:0", address), reuse_port=False)


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_has_one_owner(reuse_port: bool) -> None:
    with bound(settings_of("127.0.0.1:0"), reuse_port=reuse_port) as [first]:
        for another_too in (False, True):
            with pytest.raises(ConfigError, match="Address already in use"):
                bind(settings_of(first.name), reuse_port=another_too)


# Unix-domain sockets


def test_anybody_who_gets_to_a_unix_socket_may_ask_and_it_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with bound(settings_of(policy=(f"unix:{path}",))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not path.exists()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    with bound(settings_of(policy=(f"unix:{path}",))) as [listener]:
        assert can_connect(listener)


def test_a_socket_that_somebody_listens_on_stays_his(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    settings = settings_of(policy=(f"unix:{path}",))
    with bound(settings) as [listener]:
        said = rf"^\[policy_service\] listen: cannot listen on unix:{path}: Address already in use$"
        with pytest.raises(ConfigError, match=said):
            bind(settings, reuse_port=True)
        assert can_connect(listener)


def test_a_socket_whose_queue_is_full_is_somebodys(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with socket.socket(socket.AF_UNIX) as owner, socket.socket(socket.AF_UNIX) as waiting:
        owner.bind(str(path))
        owner.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ConfigError, match="Address already in use"):
            bind(settings_of(policy=(f"unix:{path}",)), reuse_port=False)


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("precious")
    with pytest.raises(ConfigError, match="File exists"):
        bind(settings_of(policy=(f"unix:{tmp_path}/policy",)), reuse_port=False)
    assert (tmp_path / "policy").read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "reason"), [("gone/policy", "No such file or directory"), ("x" * 120, "AF_UNIX path too long")]
)
def test_a_path_that_cannot_be_is_a_mistake(path: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        bind(settings_of(policy=(f"unix:{tmp_path}/{path}",)), reuse_port=False)


def test_a_socket_that_somebody_else_has_put_in_its_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with bound(settings_of(policy=(f"unix:{path}",))), socket.socket(socket.AF_UNIX) as another:
        path.rename(tmp_path / "old")
        another.bind(str(path))
    assert path.exists()


# Workers


def test_each_worker_has_a_queue_of_its_own_on_the_same_port_and_shares_the_rest(tmp_path: Path) -> None:
    settings = settings_of("127.0.0.1:0", "127.0.0.1:0", policy=(f"unix:{tmp_path}/policy",))
    with bound(settings, reuse_port=True) as first:
        second = doubled(first)
        try:
            assert [each.name for each in second] == [each.name for each in first]
            assert [inode(one) == inode(other) for one, other in zip(first, second, strict=True)] == [
                False,
                False,
                True,
            ]
        finally:
            close(second)
        assert (tmp_path / "policy").exists()  # it belongs to the first
        assert all(map(can_connect, first))


def inode(listener: Listener) -> int:
    return os.fstat(listener.socket.fileno()).st_ino


def test_what_is_handed_down_is_adopted() -> None:
    with bound(settings_of("127.0.0.1:0", policy=("127.0.0.1:0",))) as listeners:
        copies = [Listener(kind=each.kind, socket=each.socket.dup(), name=each.name) for each in listeners]
        text = handed_down(copies)
        numbers = [each.socket.detach() for each in copies]
        assert text == f"smtp={numbers[0]},policy={numbers[1]}"
        taken = adopted(text)
        assert [(each.kind, each.name) for each in taken] == [(each.kind, each.name) for each in listeners]
        close(taken)


# systemd


def test_sockets_of_systemd_are_for_the_process_that_it_has_started() -> None:
    assert inherited({}) == []
    assert inherited({"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1"}) == []


def test_without_sockets_of_systemd_those_of_the_settings_are_opened() -> None:
    listeners = opened(settings_of("127.0.0.1:0"), {})
    assert [each.kind for each in listeners] == [Kind.SMTP]
    close(listeners)
