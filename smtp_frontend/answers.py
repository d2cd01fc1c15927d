"""Every SMTP reply that we give in our own words. The only module that turns a verdict into a code.

A verdict's action becomes a code by the stage at which it was given (`CODES`). A rule may bring its own code in
its `reply` ("550 5.1.1 User unknown"); the configuration has checked that it fits the action.

Whoever is banned hears that, and what of him is; why, and for how long, is for the operators' log.

What goes wrong on our side is always 4xx and always the same words: the sender learns nothing about
us, and comes back.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from reputation.events import Stage
from reputation.verdict import Action, Reason, Verdict
from smtp_frontend.headers import ascii_only
from smtp_frontend.reply import Reply

OK = Reply(250, "OK", "2.0.0")
SENDER_OK = Reply(250, "Sender accepted", "2.1.0")
RECIPIENT_OK = Reply(250, "Recipient accepted", "2.1.5")
SEND_DATA = Reply(354, "End data with <CR><LF>.<CR><LF>")
BYE = Reply(221, "Bye", "2.0.0")
HELP = Reply(214, "See RFC 5321", "2.0.0")
CANNOT_VERIFY = Reply(252, "Cannot verify, will try to deliver", "2.5.0")
START_TLS = Reply(220, "Ready to start TLS", "2.0.0")

OUR_TROUBLE = Reply(451, "Temporary local problem, please try again later", "4.3.0", ours=True)
TROUBLE_AT_CONNECT = replace(OUR_TROUBLE, code=421)
CLOSING = Reply(421, "Service is closing, please try again", "4.3.2", ours=True)
TOO_MANY_SESSIONS = Reply(421, "Too many sessions, please try again later", "4.3.2", ours=True)
CLIENT_GONE = Reply(451, "Client has gone", "4.4.2", ours=True)
TIMED_OUT = Reply(421, "Timed out waiting for you", "4.4.2")
TOO_MANY_ERRORS = Reply(421, "Too many errors", "4.7.0")

TOO_MANY_OF_YOURS = Reply(421, "Too many sessions from your address, please try again later", "4.7.0", ours=True)
TOO_MANY_LOG_INS = Reply(421, "Too many failed log-ins", "4.7.0")

UNKNOWN_COMMAND = Reply(500, "Command not known", "5.5.2")
NOT_IMPLEMENTED = Reply(502, "Command not implemented", "5.5.1")
NO_ARGUMENT = Reply(501, "Command takes no argument", "5.5.4")
HELO_FIRST = Reply(503, "Say EHLO or HELO first", "5.5.1")
MAIL_FIRST = Reply(503, "Say MAIL first", "5.5.1")
NESTED_MAIL = Reply(503, "A transaction is open already", "5.5.1")
XCLIENT_NOT_FOR_YOU = Reply(550, "Insufficient authorization", "5.7.0")
AUTH_FIRST = Reply(530, "Authentication required", "5.7.0")
STARTTLS_FIRST = Reply(530, "Must issue a STARTTLS command first", "5.7.0")
ALREADY_LOGGED_IN = Reply(503, "You have logged in already", "5.5.1")
NOT_IN_TRANSACTION = Reply(503, "Not while a transaction is open", "5.5.1")
NO_RELAYING = Reply(550, "Relaying denied", "5.7.1")
UNSPOOLED = Reply(452, "No room for the message now, please try again later", "4.3.1", ours=True)
NO_RECIPIENTS = Reply(554, "No valid recipients", "5.5.1")
ONLY_QUIT = Reply(503, "You were refused, say QUIT", "5.5.1")
ALREADY_TLS = Reply(503, "TLS is in use already", "5.5.1")
TOO_MANY_RECIPIENTS = Reply(452, "Too many recipients, send the rest in another transaction", "4.5.3")
TOO_BIG = Reply(552, "Message is larger than SIZE allows", "5.3.4")
BARE_NEWLINES = Reply(550, "Bare CR or LF in the message, RFC 5321 section 2.3.8", "5.6.0")
HIDDEN_END = Reply(550, "A line of NULs and a dot in the message", "5.6.0")
NUL_IN_HEADER = Reply(550, "A NUL in the header of the message, RFC 5322 section 2.2", "5.6.0")
FIELDS_TOO_BIG = Reply(552, "Header of the message is larger than 1 MB", "5.3.4")
MAIL_LOOP = Reply(554, "Too many hops, the message loops", "5.4.6")

CODES: Mapping[Stage, Mapping[Action, tuple[int, str]]] = {
    Stage.CONNECT: {Action.TEMPFAIL: (421, "4.7.0"), Action.REJECT: (554, "5.7.1")},
    Stage.HELO: {Action.TEMPFAIL: (450, "4.7.1"), Action.REJECT: (550, "5.7.1")},
    Stage.AUTH: {Action.TEMPFAIL: (454, "4.7.0"), Action.REJECT: (535, "5.7.8")},
    Stage.MAIL: {Action.TEMPFAIL: (451, "4.7.1"), Action.REJECT: (550, "5.7.1")},
    Stage.RCPT: {Action.TEMPFAIL: (451, "4.7.1"), Action.REJECT: (550, "5.7.1")},
    Stage.DATA: {Action.TEMPFAIL: (451, "4.7.1"), Action.REJECT: (550, "5.7.1")},
}
assert CODES.keys() == set(Stage) - {Stage.DISCONNECT}

_OWN_CODE = re.compile(r"(?:(\d{3})(?:\s+|$))?(?:(\d\.\d{1,3}\.\d{1,3})(?:\s+|$))?(.*)", re.DOTALL)


def refusal(stage: Stage, verdict: Verdict) -> Reply | None:
    """The reply for a verdict that refuses; None when the verdict lets the event pass.

    A throttle that reaches this point has been held as long as the front end holds anybody: a tempfail.
    """
    if verdict.action not in (Action.THROTTLE, Action.TEMPFAIL, Action.REJECT):
        return None
    action = Action.REJECT if verdict.action is Action.REJECT else Action.TEMPFAIL
    code, enhanced = CODES[stage][action]
    if verdict.reason is Reason.STORE_UNAVAILABLE:
        return replace(OUR_TROUBLE, code=code)
    match = _OWN_CODE.fullmatch(ascii_only(verdict.reply))
    assert match is not None
    own_code, own_enhanced, text = match.groups()
    # A number that was filled in, such as "{count} messages", is no code.
    if any(part and part[0] != str(code)[0] for part in (own_code, own_enhanced)):
        own_code, own_enhanced, text = None, None, match[0]
    return Reply(int(own_code or code), text or "Refused by policy", own_enhanced or enhanced)


UNKNOWN_RECIPIENT_CODES = frozenset({550, 551, 553})
UNKNOWN_RECIPIENT_ENHANCED = frozenset({"5.1.1", "5.1.6", "5.1.10"})


def names_unknown_recipient(reply: Reply) -> bool:
    """Whether a next hop's answer to RCPT says that there is no such mailbox (RFC 3463 section 3.2).

    Without an enhanced code the basic one has to do.
    """
    if reply.ours or not reply.permanent:
        return False
    if reply.enhanced:
        return reply.enhanced in UNKNOWN_RECIPIENT_ENHANCED
    return reply.code in UNKNOWN_RECIPIENT_CODES
