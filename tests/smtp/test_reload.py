"""SIGHUP: the rules are read anew, and no session is dropped."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import RedisServer, free_port, wait_until
from tests.smtp.programs import Flow, Program, child_of, config_of, front_end, running, send, serve

PARTNERS = """
[[rule]]
name = "strangers"
stage = "rcpt"
when = 'sender_domain != "partner.example"'
key = ["sender"]
count = "recipients"
limits = ["1/1h"]
action = "reject"
"""


@pytest.fixture
def program(tmp_path: Path, valkey: RedisServer) -> Iterator[Program]:
    with running(front_end(tmp_path / "front", config_of(valkey.url, prefix=tmp_path.name, limit="100000/1m"))) as it:
        yield it


def reload(program: Program, config: str, pid: int | None = None) -> None:
    """Write the file, send the signal, and wait until something is said about it."""
    program.config.write_text(config, encoding="utf-8")
    told = len(program.lines("reloaded"))
    os.kill(pid or program.pid, signal.SIGHUP)
    wait_until(lambda: len(program.lines("reloaded")) > told, "the rules are read anew")


def test_reloaded_under_load_no_session_is_dropped(program: Program, valkey: RedisServer) -> None:
    """Connections that stay open meet the new rules, and the old ones again; each of their messages is answered."""
    prefix = program.directory.parent.name
    loose = config_of(valkey.url, prefix=prefix, limit="100000/1m")
    strict = config_of(valkey.url, prefix=prefix, limit="1/1h")
    flows = [Flow(program.port) for _ in range(4)]
    with ExitStack() as stack:
        for flow in flows:
            stack.enter_context(flow.flowing())
        for _ in range(3):
            for config, code in ((strict, "451"), (loose, "250")):
                reload(program, config)
                seen = [len(flow.answers) for flow in flows]
                for flow, before in zip(flows, seen, strict=True):
                    flow.goes_on()
                    wait_until(lambda: flow.answers[-1].startswith(code), f"answers are {code}")  # noqa: B023 - called before the next one
                    assert len(flow.answers) > before
    answers = [answer[:3] for flow in flows for answer in flow.answers]
    assert set(answers) == {"250", "451"}
    assert len(program.lines("in force")) == 6
    assert not program.lines("ERROR")


def test_a_broken_file_keeps_the_rules_and_says_why(program: Program, valkey: RedisServer) -> None:
    prefix = program.directory.parent.name
    config = config_of(valkey.url, prefix=prefix, limit="1/1h")
    reload(program, config)
    assert send(program.port, 2)[1].startswith("451 4.7.1 sender:alice@example.com: 1/1h messages reached")
    for broken, said in (
        (config + PARTNERS.replace("sender_domain", "nobody"), r'[[rule]] "strangers" when: there is no "nobody"'),
        (config + PARTNERS.replace("1/1h", "often"), '[[rule]] "strangers" limits: "often" is not a limit'),
        (config + "[[rule", "is not valid TOML"),
    ):
        reload(program, broken)
        assert said in program.lines("not reloaded, the rules stay as they were")[-1]
        assert send(program.port)[0].startswith("451"), "the old rule still holds"
    program.config.unlink()
    os.kill(program.pid, signal.SIGHUP)
    wait_until(lambda: bool(program.lines("cannot be read")), "the missing file is told")
    assert send(program.port)[0].startswith("451")


def test_new_conditions_and_what_needs_a_restart(program: Program, valkey: RedisServer) -> None:
    prefix = program.directory.parent.name
    config = config_of(valkey.url, prefix=prefix, limit="100000/1m")
    assert send(program.port, 3) == ["250 2.0.0 Delivered"] * 3
    reload(program, config.replace("drain_seconds = 5.0", "drain_seconds = 6.0") + PARTNERS)
    assert [answer[:3] for answer in send(program.port, 2)] == ["250", "550"]
    assert send(program.port, 3, "a@partner.example") == ["250 2.0.0 Delivered"] * 3
    wait_until(lambda: bool(program.lines("[smtp] has changed")), "a change that is not in force yet is told")
    assert not program.lines("[store] has changed")


def test_serve_passes_it_on(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    config = config_of("embedded:data", listen=listen)
    with running(serve(tmp_path / "serve", config)) as program:
        front = child_of(program, "smtp_frontend")
        reload(program, config.replace("30/1m", "1/1h"))
        assert [answer[:3] for answer in send(program.port, 2)] == ["250", "451"]
        assert child_of(program, "smtp_frontend") == front, "it was not started anew"
