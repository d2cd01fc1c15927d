"""Whom an outcome is counted against, or for: whoever sent what it is about."""

from collections.abc import Awaitable, Callable, Sequence

from reputation.bookkeeping import CONTACT, LOOKING, RETURNED, RETURNING, SEEN, those_proven
from reputation.charges import Answer, Charge
from reputation.events import Outcome, Rcpt
from reputation.facts import LookedUp
from reputation.keys import Dimension, Entities, Key, composite, entities_of
from reputation.spelling import Spelling

Read = Callable[[Sequence[Charge]], Awaitable[Answer | None]]
"""Asks the store; None for no answer."""


async def blamed(outcome: Outcome, spelling: Spelling, network: LookedUp, read: Read) -> Entities:
    """The entities that an outcome is about.

    A report of a message that came back can be made up by anybody. It counts against a sender only if he, logged in,
    has written to the recipient that it names, and once a day.
    """
    if outcome.returned is None:
        return those_proven(outcome, entities_of(outcome.event, spelling, network))
    sender, recipient = outcome.returned
    sent = entities_of(Rcpt(session=outcome.event.session, sender=sender, recipient=recipient), spelling)
    contact = composite(sent, CONTACT)
    known = None if contact is None else await read([Charge(Key(contact, SEEN), LOOKING)])
    if contact is None or known is None or not known.numbers[0]:
        return {}
    told = await read([Charge(Key(contact, SEEN, RETURNED), RETURNING)])
    if told is None or told.numbers[0]:
        return {}
    return {each: sent[each] for each in (Dimension.SENDER, Dimension.SENDER_DOMAIN) if each in sent}
