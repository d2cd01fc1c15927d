"""What kind of mail an event is about: its class. Mail that a machine sends is no mail that its sender has written.

=========== ==================================================================================== ==========
class       how it is told                                                                       known from
=========== ==================================================================================== ==========
submission  the client has logged in (RFC 6409)                                                  mail
autoreply   ``Auto-Submitted: auto-replied`` (RFC 3834 section 5)                                data
bounce      the null sender (RFC 5321 section 4.5.5); a delivery report (RFC 3464)               mail, data
forward     a sender that a forwarder has rewritten: SRS, or Gmail's ``+caf_=``                  mail
list        the sender of a list's own (``-bounces``, ``owner-``); ``List-Id`` (RFC 2919)        mail, data
inbound     everything else                                                                      mail
=========== ==================================================================================== ==========

The first that fits counts, so at DATA the class may be another than at MAIL.

Bugs: whoever sends can look like any class but submission. A rule that spares a class spares whoever pretends to it.
"""

import re
from enum import StrEnum
from functools import lru_cache

from reputation.events import NULL_SENDER, Data, Mail, Rcpt

CACHED_SENDERS = 16_384
MAX_SENDER_LENGTH = 320


class MailClass(StrEnum):
    """Kinds of mail."""

    SUBMISSION = "submission"
    INBOUND = "inbound"
    FORWARD = "forward"
    BOUNCE = "bounce"
    LIST = "list"
    AUTOREPLY = "autoreply"


_FORWARDED = re.compile(r"srs[01][=+-]|[^@]*\+caf_=", re.IGNORECASE)
"""The Sender Rewriting Scheme, http://www.libsrs2.org/srs/srs.pdf."""
_OF_A_LIST = re.compile(r"owner-|[^@]*-(?:bounces?|owner|return)(?:[+=-][^@]*)?@|bounces?[+-][^@]*@", re.IGNORECASE)
"""How list managers call their return addresses: Mailman, Sympa, Majordomo, ezmlm."""
_REPORT = re.compile(r"\s*multipart/report\b.*\breport-type\s*=\s*\"?delivery-status\b", re.IGNORECASE | re.DOTALL)


def class_of(event: Mail | Rcpt | Data) -> MailClass:
    """The class of the mail that an event is about."""
    if event.session.user:
        return MailClass.SUBMISSION
    if isinstance(event, Data) and (told := _told_by_header(event)) is not None:
        return told
    told = _told_by_sender(event.sender[:MAX_SENDER_LENGTH])
    if told is MailClass.INBOUND and isinstance(event, Data) and _is_list_mail(event):
        return MailClass.LIST
    return told


@lru_cache(maxsize=CACHED_SENDERS)
def _told_by_sender(sender: str) -> MailClass:
    if sender == NULL_SENDER:
        return MailClass.BOUNCE
    if _FORWARDED.match(sender):
        return MailClass.FORWARD
    return MailClass.LIST if _OF_A_LIST.match(sender) else MailClass.INBOUND


def _told_by_header(event: Data) -> MailClass | None:
    if event.header.get("auto-submitted", "").strip().lower().startswith("auto-replied"):
        return MailClass.AUTOREPLY
    return MailClass.BOUNCE if _REPORT.match(event.header.get("content-type", "")) else None


def _is_list_mail(event: Data) -> bool:
    header = event.header
    return "list-id" in header or "list-post" in header or header.get("precedence", "").strip().lower() == "list"
