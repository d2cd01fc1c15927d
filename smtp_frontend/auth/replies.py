"""The answers to AUTH, but for what the rules say. Fixed texts: whoever guesses learns nothing from them.

RFC 4954 section 6 has the codes. What is our trouble is 454, and no failure of anybody.
"""

from smtp_frontend.reply import Reply

ACCEPTED = Reply(235, "Authentication successful", "2.7.0", ours=True)
DENIED = Reply(535, "Authentication credentials invalid", "5.7.8", ours=True)
UNAVAILABLE = Reply(454, "Temporary authentication failure, try again later", "4.7.0", ours=True)

CANCELLED = Reply(501, "Authentication cancelled", "5.7.0", ours=True)
NOT_BASE64 = Reply(501, "Cannot decode this response", "5.5.2", ours=True)
MALFORMED = Reply(501, "This is no response of this mechanism", "5.5.2", ours=True)
TOO_LONG = Reply(500, "Authentication exchange line is too long", "5.5.6", ours=True)
UNKNOWN_MECHANISM = Reply(504, "Unrecognized authentication type", "5.5.4", ours=True)
