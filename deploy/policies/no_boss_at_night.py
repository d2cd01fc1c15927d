"""Nobody writes in the boss's name at night: a policy in Python, as an example.

    [[python]]
    file = "deploy/policies/no_boss_at_night.py"
    mode = "shadow"        # first look at what it would do

"Are you at your desk? I need you to buy some vouchers" comes in the boss's name, and when nobody can ask her. Two ways
lead there, and they are told apart by what the mail says about itself:

* from outside, with her address and no right to it (SPF): refused for good;
* from her own account, which somebody else has got into: strangers in a row, to whom she has never written before,
  wait until she is up. Those whom she knows are not kept waiting.

Everybody else, and the day, is none of this policy's business: it has no opinion. `no_boss_at_night.smtp` beside it
plays all of that.
"""

from reputation.events import Rcpt
from reputation.python_policies import Facts, accept, at, reject, tag, tempfail
from reputation.verdict import Verdict

BOSS = "boss@example.com"
MORNING_HOUR = 6
MANY_AN_HOUR = 3
"""Recipients, so that one forgotten invitation at night is let through."""
YOUNG_DAYS = 30.0
BAD_SCORE = 0.9


@at("rcpt", needs=["spf", "reputation.sender.score", "last_1h.user.recipients", "age.sender", "first_time"])
async def no_boss_at_night(event: Rcpt, facts: Facts) -> Verdict | None:
    """Asked about each recipient, before anything is counted."""
    if facts.sender != BOSS or facts.hour >= MORNING_HOUR:
        return None
    if not facts.user:
        if facts.spf in {"fail", "softfail", "none"} or facts.score("sender").score > BAD_SCORE:
            return reject("550 5.7.1 Not at night")
        # No answer from the DNS is nobody's fault; but the mail is marked for those who read it.
        return None if facts.spf == "pass" else tag("unconfirmed-boss")
    if not facts.first_time:
        return accept(service="vip") if facts.age("sender") > YOUNG_DAYS else None
    if facts.count("last_1h", "user", "recipients") >= MANY_AN_HOUR:
        return tempfail(f"451 4.7.1 {event.recipient} hears of you in the morning")
    return None
