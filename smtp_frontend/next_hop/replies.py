"""The answers that we make ourselves when a next hop cannot give one. Fixed texts, without detail.

Everything that is our trouble or the next hop's is 4xx: the client keeps the message and comes again. 5xx is
only for what will be no better next time: an address or a message that this next hop can never take.
"""

from smtp_frontend.reply import Reply

UNREACHABLE = Reply(451, "Next hop cannot be reached, try again later", "4.4.1", ours=True)
BROKEN = Reply(451, "Connection to the next hop lost, try again later", "4.4.2", ours=True)
TOO_MANY_RECIPIENTS = Reply(452, "One recipient at a time, try this one again later", "4.5.3", ours=True)
DISK_FULL = Reply(452, "Mailbox storage is full, try again later", "4.3.1", ours=True)
STORAGE_TROUBLE = Reply(451, "Mailbox storage has trouble, try again later", "4.3.0", ours=True)

BAD_SENDER = Reply(553, "Sender address is not valid", "5.1.7", ours=True)
BAD_RECIPIENT = Reply(553, "Recipient address is not valid", "5.1.3", ours=True)
NO_RECIPIENTS = Reply(554, "No valid recipients", "5.5.1", ours=True)
BARE_LINE_ENDING = Reply(554, "Message has a bare CR or LF", "5.6.0", ours=True)
NO_EIGHT_BIT = Reply(550, "Next hop does not take 8-bit content", "5.6.3", ours=True)
NO_SMTPUTF8 = Reply(553, "Next hop does not take internationalized mail", "5.6.7", ours=True)

CLOSING = 421
"""The server closes the connection; it may say so in answer to anything (RFC 5321 section 3.8)."""


def passed_on(reply: Reply) -> Reply:
    """The answer of a next hop as the client may hear it: 421 becomes 451, we do not hang up on the client."""
    if reply.code != CLOSING:
        return reply
    return Reply(451, reply.text, reply.enhanced or BROKEN.enhanced)
