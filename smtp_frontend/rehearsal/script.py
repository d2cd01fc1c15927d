r"""How an SMTP dialogue is written down. Pure: text in, scenes out.

# What a mail operator learns from it.            a comment, anywhere
[[rule]]                                          the configuration (TOML), and [hop], what the next hop does:
name = "sender-rate"                                lmtp, extensions, script (see `next_hop`)
...
---
S: 220 mx.example.net *                           a line of the server's answer; * is any text
C: EHLO client.example.com                        the client sends the line and CRLF
S: 250-mx.example.net                             every line of every answer is written down
S: 250 *
C> "NOOP\nNOOP\r\n"                               the client sends exactly these octets
C*3: RCPT TO:<r{n}@example.net>                   three times, {n} being 1, 2, 3; so with S*3
S: <closed>                                       the server closes the connection
N: RCPT TO:<bob@example.net>                      the next hop has seen this line, of command or message
N*0: DATA                                         ... or has not, or exactly so many times
L: verdict stage=mail action=accept *             the log has this line; L*1 exactly once
! deliver alice@example.com bob@example.net       a stage direction, see `DIRECTIONS`
=== the same in shadow                            another scene: all begins anew
[every_rule]                                      what differs in the configuration; this table is put into
mode = "shadow"                                   every rule
---
...

A script without a configuration is about the one that it is played with; it needs no line ---.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DIRECTIONS = {
    "connect": "connect from 127.0.0.2: hang up, and connect once more, from that address",
    "hello": "be greeted, and say HELO",
    "deliver": "deliver SENDER RECIPIENT: a whole message, which is taken",
    "visit": "hang up, connect once more from the same address, and hear the greeting, whatever it says",
    "others": "others 5: so many other clients connect from the same address and stay until this one hangs up",
    "N times": "50 times deliver s{n}@example.com bob@example.net: a direction again and again, {n} being 1, 2, 3",
    "tls": "the TLS handshake, after STARTTLS was answered",
    "later": "later 60: so many seconds go by",
    "ban": "ban ip:192.0.2.7 reject: an operator bans whom he names, from now on",
    "list": "list allow ip:192.0.2.7: an operator puts somebody on a list",
    "lift": "lift ban|ip:192.0.2.7: he takes that back",
    "release": "release user:alice: he lets go of somebody whom a rule holds",
    "store": "store down, store up: the counters cannot be asked, and can again",
    "client": "client 192.0.2.7, client 192.0.2.7 as alice: hang up, and connect as if from there (XCLIENT)",
    "submit": "submit, submit as alice: hang up, connect where users send, and log in (everybody's password: secret)",
    "user": "user alice: the same as somebody who has logged in, from the address that was named last, if any was",
    "known": "known [192.0.2.7] asn=64500 country=DE spf=fail: what look-ups find from now on (of that client)",
    "outcome": "outcome spam: somebody reports the last message that was taken, as spam, ham, ...",
    "hang up": "the client is gone",
}

HOP = frozenset({"lmtp", "extensions", "script"})
"""What can be said of the next hop."""

CLOSED = "<closed>"

_STEP = re.compile(r"(?P<kind>[CSNL])(?:\*(?P<count>\d+))?(?P<mark>[:>])(?: (?P<text>.*))?|! (?P<direction>.+)")


class ScriptError(Exception):
    """A script that cannot be read: the text names the line."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a script."""

    line: int
    kind: str
    """C, S, N, L, or ! for a stage direction."""
    text: str
    count: int | None = None
    octets: bytes | None = None
    """What C> sends."""

    def __str__(self) -> str:
        times = "" if self.count is None else f"*{self.count}"
        return f"! {self.text}" if self.kind == "!" else f"{self.kind}{times}: {self.text}"

    @property
    def texts(self) -> list[str]:
        """The text, as often as it counts."""
        return [self.text.replace("{n}", str(number)) for number in range(1, (self.count or 1) + 1)]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A server, a next hop, and what is said."""

    title: str
    tables: dict[str, Any]
    """The configuration."""
    hop: dict[str, Any]
    steps: tuple[Step, ...]

    @property
    def speaks_for_others(self) -> bool:
        """Whether clients are played that connect from elsewhere, or have logged in."""
        return any(step.kind == "!" and _once(step.text).split()[0] in {"client", "user"} for step in self.steps)

    @property
    def submits(self) -> bool:
        """Whether clients are played that connect where users send."""
        return any(step.kind == "!" and _once(step.text).split()[0] == "submit" for step in self.steps)


def _once(direction: str) -> str:
    """A direction without how often it is to be followed."""
    return re.sub(r"^\d+ times ", "", direction)


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is what `pattern` says, where * is any text.

    >>> matches("451 4.7.* (over-*)", "451 4.7.1 no (over-limit)"), matches("451", "451 4.7.1")
    (True, False)
    """
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def parse(text: str, given: Mapping[str, Any] | None = None) -> tuple[Scene, ...]:
    """The scenes of a script; raises `ScriptError`. One without a configuration gets the `given` one."""
    scenes: list[Scene] = []
    first: dict[str, Any] = {}
    for title, header, numbered in _scenes(text):
        try:
            tables = tomllib.loads(header)
        except tomllib.TOMLDecodeError as error:
            raise ScriptError(f"configuration of scene {len(scenes) + 1}: {error}") from None
        if scenes:
            tables = _changed(first, tables)
        elif tables.keys() <= {"hop"}:
            tables = {**(given or {}), **tables}
        first = first or tables
        hop = tables.get("hop", {})
        if unknown := sorted(hop.keys() - HOP):
            raise ScriptError(f"scene {len(scenes) + 1}: [hop] {unknown[0]}: known are {', '.join(sorted(HOP))}")
        own = {name: table for name, table in tables.items() if name not in {"hop", "every_rule"}}
        scenes.append(Scene(title=title, tables=own, hop=hop, steps=tuple(_steps(numbered))))
    return tuple(scenes)


def _scenes(text: str) -> Iterator[tuple[str, str, Sequence[tuple[int, str]]]]:
    """(title, configuration, numbered lines of the dialogue)."""
    title, header, dialogue, in_header = "", list[str](), list[tuple[int, str]](), True
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("==="):
            yield title, "\n".join(header), dialogue
            title, header, dialogue, in_header = line.strip("= "), [], [], True
        elif in_header and line == "---":
            in_header = False
        elif in_header and _STEP.fullmatch(line):  # no line of TOML looks like it
            in_header = False
            dialogue.append((number, line))
        elif in_header:
            header.append(line)
        elif line and not line.startswith("#"):
            dialogue.append((number, line))
    yield title, "\n".join(header), dialogue


def _changed(first: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a further scene."""
    tables = {name: first.get(name) for name in first} | {
        name: {**first.get(name, {}), **table} if isinstance(table, dict) else table for name, table in changes.items()
    }
    return tables | {"rule": [{**rule, **changes.get("every_rule", {})} for rule in tables.get("rule", [])]}


def _steps(numbered: Sequence[tuple[int, str]]) -> Iterator[Step]:
    if not numbered:
        raise ScriptError("a scene without a dialogue: is the line --- missing?")
    for number, line in numbered:
        match = _STEP.fullmatch(line)
        if match is None:
            raise ScriptError(f"line {number} is no step: {line}")
        if (direction := match["direction"]) is not None:
            if not _once(direction).startswith(tuple(DIRECTIONS)):
                raise ScriptError(f"line {number}: unknown stage direction: {line}; known: {', '.join(DIRECTIONS)}")
            yield Step(line=number, kind="!", text=direction)
            continue
        text, count = match["text"] or "", match["count"] and int(match["count"])
        octets = _octets(text, number) if match["mark"] == ">" else None
        yield Step(
            line=number, kind=match["kind"], text=text, count=count or (0 if count == 0 else None), octets=octets
        )


def _octets(text: str, number: int) -> bytes:
    try:
        octets = ast.literal_eval(f"b{text}")
    except (SyntaxError, ValueError):
        octets = None
    if not isinstance(octets, bytes):
        raise ScriptError(f'line {number}: write C> "octets with \\r and \\x00"')
    return octets
