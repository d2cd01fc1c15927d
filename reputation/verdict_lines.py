"""A verdict as one line of the live stream: JSON with the names of `reputation.desk.documents.VerdictLine`.

What has nothing to tell is left out of the stream: an event that passes without any rule having a part in it, unless it
is a whole message or a log-in. What is empty is left out of the line. The mail's subject and header never stand in it.
"""

import json
from typing import NamedTuple

from reputation.events import Auth, Data, Event, Mail, Rcpt, Stage
from reputation.keys import Dimension, Entities, Entity
from reputation.verdict import Action, Reason, Verdict

MAX_RECIPIENTS = 5
"""Named in one line."""
MAX_TEXT = 320
ALWAYS_TOLD = frozenset({Stage.DATA, Stage.AUTH})


class Told(NamedTuple):
    """A verdict, and what is worth telling of its event; holds no content of the message."""

    at: float
    """Seconds since the epoch."""
    stage: Stage
    verdict: Verdict
    entities: tuple[Entity, ...]
    values: dict[str, object]


def is_worth_telling(event: Event, verdict: Verdict) -> bool:
    """Whether somebody who watches wants to see it."""
    if verdict.action is not Action.ACCEPT or verdict.fired or verdict.would:
        return True
    return event.stage in ALWAYS_TOLD or verdict.reason is Reason.STORE_UNAVAILABLE


def told(event: Event, entities: Entities, verdict: Verdict, at: float) -> Told:
    """What the stream tells of a verdict."""
    session, network = event.session, verdict.looked_up.network
    values: dict[str, object] = {
        "client": str(session.client),
        "asn": network.asn,
        "country": network.country,
        "helo": session.helo[:MAX_TEXT],
        "session": session.id,
        **_of_envelope(event, entities),
    }
    if Dimension.USER in entities:
        values["user"] = entities[Dimension.USER].id
    elif isinstance(event, Auth):
        values["user"] = event.login[:MAX_TEXT]
    return Told(at, event.stage, verdict, tuple(entities.values()), values)


def _of_envelope(event: Event, entities: Entities) -> dict[str, object]:
    values: dict[str, object] = {}
    if Dimension.SENDER in entities:
        values["sender"] = entities[Dimension.SENDER].id
    match event:
        case Mail():
            values["message_bytes"] = event.declared_bytes
        case Rcpt():
            values |= {"recipients": [event.recipient[:MAX_TEXT]], "recipient_count": 1}
        case Data():
            named = [text[:MAX_TEXT] for text in event.recipients[:MAX_RECIPIENTS]]
            values |= {"recipients": named, "recipient_count": len(event.recipients)}
            values["message_bytes"] = event.message_bytes
        case _:
            pass
    return values


def spelled(told: Told, node: str) -> str:
    """The line of a verdict of this process, ``node``."""
    verdict, deciding = told.verdict, told.verdict.deciding
    values = {
        "at": round(told.at, 3),
        "node": node,
        "stage": told.stage,
        "action": verdict.action,
        "reason": verdict.reason,
        "rule": verdict.rule,
        "entry": verdict.entry,
        "retry_after_seconds": round(verdict.retry_after_seconds, 3),
        "delay_seconds": verdict.delay_seconds,
        "tags": list(verdict.tags),
        "service": verdict.service,
        "fired": list(verdict.fired),
        "would": list(verdict.would),
        "entities": [str(entity) for entity in told.entities],
        "finding": str(deciding) if verdict.rule and deciding is not None else "",
        **told.values,
    }
    return json.dumps({name: value for name, value in values.items() if value})
