"""Policies in Python: functions of the site, in files that the configuration names.

    from reputation.events import Rcpt
    from reputation.python_policies import Facts, at, reject
    from reputation.verdict import Verdict

    @at("rcpt", needs=["spf"])
    async def no_boss_at_night(event: Rcpt, facts: Facts) -> Verdict | None:
        if facts.sender == "boss@example.com" and facts.spf != "pass" and facts.hour < 6:
            return reject("550 5.7.1 Not at night")
        return None

`at` marks a function, which is then asked about each event of a stage. It sees the facts that conditions see
(`reputation.python_facts`). What has to be looked up, or asked of the store, it names in `needs`, because that is
found out before. It answers with a verdict, which is an opinion like that of a rule without limits
(`reputation.opinions`), or with None for no opinion. The verdict bears its name: "no-boss-at-night".

Whatever goes wrong in it, mail flows: an exception, a wrong answer and a missed deadline are no opinion, and counted
(`reputation.briefing`).

A file is read, compiled and run anew whenever it is loaded: at the start, by check-config, and at SIGHUP, then beside
the sessions, in a thread. Nothing of it stays behind in `sys.modules` and no byte code is written.

Bugs: a function that blocks the event loop (a plain socket, time.sleep, a long loop) cannot be stopped, and nobody's
mail flows meanwhile; so it is with one that swallows `asyncio.CancelledError`, for its own session. A file that does
not come to an end when it is run holds up the start. What a file imports is imported once, and not read again before
the next start. What looks modules up by their names later (pickle, `typing.get_type_hints`) does not find the file.
"""

import asyncio
import inspect
import os
import re
import stat
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar, overload

from reputation.config import PythonSettings
from reputation.errors import ConfigError
from reputation.events import Auth, Connect, Data, Event, Helo, Mail, Rcpt, Stage
from reputation.opinions import PolicyFunction
from reputation.python_facts import Facts, Needed, needed_for
from reputation.rule_settings import (
    MAX_REPLY_LENGTH,
    MAX_RULE_DELAY_SECONDS,
    RULE_NAME,
    SERVICE_NAME,
    check_reply,
)
from reputation.rules import DEFAULT_MATCHED_REPLY, DISCARDING
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import Moment

__all__ = ["Facts", "accept", "at", "discard", "load_functions", "reject", "tag", "tarpit", "tempfail"]

MAX_TAGS = 10
"""Of one verdict: they go into one field of the message's header."""
STAGES = tuple(stage for stage in Stage if stage is not Stage.DISCONNECT)
"""When functions can be asked. Nothing can be done about a session that is over."""
DENYING_WITH_REPLY = (Action.REJECT, Action.TEMPFAIL)


# Marking a function

E = TypeVar("E", bound=Event)
Asked = Callable[[E, Facts], Coroutine[Any, Any, Verdict | None]]
Marking = Callable[[Asked[E]], Asked[E]]


class Marked(NamedTuple):
    """A function and when it is asked."""

    function: Asked[Any]
    needed: Needed


_MARKED = "__reputon_policies__"
"""Where a file keeps its marked functions, among its own names."""


@overload
def at(stage: Literal["connect", Stage.CONNECT], needs: Sequence[str] = ()) -> Marking[Connect]: ...
@overload
def at(stage: Literal["helo", Stage.HELO], needs: Sequence[str] = ()) -> Marking[Helo]: ...
@overload
def at(stage: Literal["auth", Stage.AUTH], needs: Sequence[str] = ()) -> Marking[Auth]: ...
@overload
def at(stage: Literal["mail", Stage.MAIL], needs: Sequence[str] = ()) -> Marking[Mail]: ...
@overload
def at(stage: Literal["rcpt", Stage.RCPT], needs: Sequence[str] = ()) -> Marking[Rcpt]: ...
@overload
def at(stage: Literal["data", Stage.DATA], needs: Sequence[str] = ()) -> Marking[Data]: ...
def at(stage: str, needs: Sequence[str] = ()) -> Marking[Any]:
    """Mark a function to be asked at a stage.

    `needs` names what has to be found out before: facts that are looked up, `first_time`, and names with dots as in
    conditions, such as "reputation.sender.score". Raises `ConfigError` for what cannot be.
    """
    if stage not in STAGES:
        raise ConfigError(f'at: name a stage, such as @at("rcpt"); there are: {", ".join(STAGES)}')
    if isinstance(needs, str) or not all(isinstance(name, str) for name in needs):
        raise ConfigError('needs: write a list of names, such as ["spf"]')
    needed = needed_for(Stage(stage), needs, "needs")

    def mark(function: Asked[Any]) -> Asked[Any]:
        _check_function(function)
        inspect.unwrap(function).__globals__.setdefault(_MARKED, []).append(Marked(function, needed))
        return function

    return mark


def _check_function(function: Asked[Any]) -> None:
    if not inspect.isfunction(function) or not inspect.iscoroutinefunction(function):
        raise ConfigError(f"{getattr(function, '__name__', 'this')} is no async function: write async def")
    name = function.__name__
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise ConfigError(f"{name} does not take two arguments: write async def {name}(event, facts)") from None
    if re.fullmatch(RULE_NAME, _policy_name(function)) is None:
        raise ConfigError(f"{name} cannot name a policy: write lower-case words with _, at most 64 characters")


def _policy_name(function: Asked[Any]) -> str:
    return function.__name__.replace("_", "-")


# What a function answers


def accept(*, service: str = "") -> Verdict:
    """No objection; and the message is put in a class of service, if one is named."""
    return _opinion(Action.ACCEPT, service=service)


def tag(*names: str, service: str = "") -> Verdict:
    """Let it pass with these tags; without any, with the policy's name."""
    return _opinion(Action.TAG, tags=names, service=service)


def tarpit(delay_seconds: float = 5.0, *, service: str = "") -> Verdict:
    """Let it pass, and hold the answer back."""
    return _opinion(Action.TARPIT, delay_seconds=delay_seconds, service=service)


def tempfail(reply: str = "") -> Verdict:
    """Refuse it for now. The text for the client may begin with codes: "451 4.7.1 Later"."""
    return _opinion(Action.TEMPFAIL, reply=reply)


def reject(reply: str = "") -> Verdict:
    """Refuse it for good. The text for the client may begin with codes: "550 5.7.1 No"."""
    return _opinion(Action.REJECT, reply=reply)


def discard() -> Verdict:
    """Take it and drop it. From stage mail on."""
    return _opinion(Action.DISCARD)


def _opinion(
    action: Action, *, reply: str = "", delay_seconds: float = 0.0, tags: tuple[str, ...] = (), service: str = ""
) -> Verdict:
    """Raises `ConfigError` for what a rule could not say either.

    What cannot stand in a reply line, and what is too long for one, is no mistake here, as it is in a rule's reply:
    who writes something about an event into his reply must not fail because of whatever is in there.
    """
    reply = "".join(each if each.isascii() and each.isprintable() else "?" for each in reply)[:MAX_REPLY_LENGTH]
    check_reply(reply, action)
    if not 0 <= delay_seconds <= MAX_RULE_DELAY_SECONDS:
        raise ConfigError(f"delay_seconds: write 0 to {MAX_RULE_DELAY_SECONDS}")
    if len(tags) > MAX_TAGS or any(re.fullmatch(RULE_NAME, name) is None for name in tags):
        raise ConfigError(f"tags: write up to {MAX_TAGS}, each of lower-case words with hyphens")
    if re.fullmatch(SERVICE_NAME, service) is None:
        raise ConfigError("service: write a lower-case word, such as dirty")
    return Verdict(
        action=action, reason=Reason.MATCHED, reply=reply, delay_seconds=delay_seconds, tags=tags, service=service
    )


def _said_by(name: str, stage: Stage, answer: object) -> Verdict | None:
    """What a function's answer means. Of a verdict that it has made itself, only what the functions above could say."""
    if answer is None:
        return None
    if not isinstance(answer, Verdict):
        raise TypeError(f"a policy answers with a Verdict or None, and not with {type(answer).__name__}")
    action = Action(answer.action)
    if action is Action.THROTTLE:
        raise ConfigError("throttle waits until there is room in a limit; use tarpit or tempfail")
    if action is Action.DISCARD and stage not in DISCARDING:
        raise ConfigError(f"discard at stage {stage}: there is no message yet; use it at {', '.join(DISCARDING)}")
    default = DEFAULT_MATCHED_REPLY.format(reason=Reason.MATCHED, rule=name) if action in DENYING_WITH_REPLY else ""
    opinion = _opinion(
        action,
        reply=answer.reply or default,
        delay_seconds=answer.delay_seconds if action is Action.TARPIT else 0.0,
        tags=tuple(answer.tags) or ((name,) if action is Action.TAG else ()),
        service=answer.service,
    )
    return replace(opinion, rule=name)


# Loading files


def load_functions(settings: Sequence[PythonSettings]) -> tuple[PolicyFunction, ...]:
    """The functions of these files, each in the order in which it marks them.

    Raises `ConfigError` with the file, and where it is known the line, of the first mistake.
    """
    return tuple(function for each in settings for function in _functions_of(each))


def _functions_of(settings: PythonSettings) -> Iterator[PolicyFunction]:
    marked: list[Marked] = _run(settings.file).get(_MARKED, [])
    if not marked:
        raise ConfigError(f'{settings.file}: no function is marked: write @at("rcpt"), or another stage, above one')
    for each in marked:
        yield PolicyFunction(
            name=_policy_name(each.function),
            stage=each.needed.stage,
            mode=settings.mode,
            deadline_seconds=settings.deadline_seconds,
            lookups=each.needed.lookups,
            inquiry=each.needed.inquiry,
            call=_calling(each),
        )


_number = count(1)


def _run(file: str) -> Mapping[str, Any]:
    """The names of a file that was run just now."""
    try:
        _check_owner(file)
        code = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        raise ConfigError(f"{_place(file, error.lineno)}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{file}: is no Python: {type(error).__name__}: {error}") from None
    module = ModuleType(f"reputon_policy_{next(_number)}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses look for it there
    try:
        exec(code, module.__dict__)  # noqa: S102 - the site's own code, which its configuration names
    except BaseException as error:  # somebody else's code may raise anything
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
        said = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        told = _text_of(error)
        raise ConfigError(f"{_place(file, lines[-1] if lines else None)}: {said}{told}") from error
    finally:
        sys.modules.pop(module.__name__, None)
    return module.__dict__


def _text_of(error: BaseException) -> str:
    try:
        return str(error).partition("\n")[0]
    except Exception:  # somebody else's code, once more
        return "(it cannot be told)"


def _check_owner(file: str) -> None:
    """Raise `ConfigError` for a file that others could change: it runs with all our rights."""
    status = Path(file).stat()
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{file}: everybody may write it, and it would run with reputon's rights: chmod o-w {file}")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{file}: belongs to another user, and would run with reputon's rights: chown root {file}")


def _place(file: str, line: int | None) -> str:
    return f"{file}, line {line}" if line else file


def _calling(marked: Marked) -> Callable[[Moment], Awaitable[Verdict | None]]:
    """Asks a function; raises whatever it raises, as an `Exception`."""
    function, needed = marked
    name = _policy_name(function)

    async def call(moment: Moment) -> Verdict | None:
        try:
            answer = await function(moment.event, Facts(moment, needed))
        except SystemExit as error:
            raise RuntimeError("a policy cannot end the program") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # its time is up, or its session is over
                raise
            raise RuntimeError("it waited for something that was cancelled") from error
        except BaseException as error:  # whatever somebody else's code raises is no opinion
            if isinstance(error, Exception):
                raise
            raise RuntimeError(f"a policy must not raise {type(error).__name__}") from error
        return _said_by(name, needed.stage, answer)

    return call
