"""What is said once after something was done: a code in the address, with numbers, and never free text.

/console/?said=forgotten.12.30      "Forgotten: 12 counters, 30 verdicts."
"""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.requests import Request

FIELD = "said"
MAX_DIGITS = 12


class Notice(NamedTuple):
    """A sentence, and whether it is about something that went well."""

    text: str
    is_good: bool = True


NOTICES: Mapping[str, Notice] = {
    "banned": Notice("Banned. In force on every process within a second."),
    "overridden": Notice("The override is put down. In force on every process within a second."),
    "listed": Notice("Put on the list. In force on every process within a second."),
    "lifted": Notice("Lifted, on every process within a second."),
    "released": Notice("Released, with a fresh allowance. Bans lifted: {}."),
    "forgotten": Notice("Forgotten: {} counters and {} verdicts erased."),
    "reloading": Notice("Every process reads its rules anew: {} rules."),
    "out": Notice("You are logged out."),
    "over": Notice("Your log-in is over. Log in again to go on where you were.", is_good=False),
}


def coded(code: str, *numbers: int) -> str:
    """How a notice stands in an address."""
    return ".".join([code, *map(str, numbers)])


def of_request(request: Request) -> Notice | None:
    """The notice that an address names; None for any other text."""
    return of_text(request.query_params.get(FIELD, ""))


def of_text(text: str) -> Notice | None:
    """The notice of a code.

    >>> of_text("forgotten.12.30").text, of_text("forgotten.<b>"), of_text("hello")
    ('Forgotten: 12 counters and 30 verdicts erased.', None, None)
    """
    code, *numbers = text.split(".")
    notice = NOTICES.get(code)
    if notice is None or len(numbers) != notice.text.count("{}"):
        return None
    if not all(number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS for number in numbers):
        return None
    return Notice(notice.text.format(*(f"{int(number):,}" for number in numbers)), notice.is_good)
