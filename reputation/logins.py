"""What a login and a password may look like.

A login is of letters, digits and visible ASCII; RFC 8265 section 3.3 allows a user name no more. So a directory that
ignores blanks, widths and what is not seen finds nobody under a name that we would count as another, and none says
anything to a terminal. A password has no control characters. Both are bounded in length.

Does not do: SASLprep (RFC 4013) of passwords: they go to whoever knows them as they came.
"""

import unicodedata

MAX_LOGIN_OCTETS = 320
"""RFC 4616 wants 255 at least; an address has 320 at most (RFC 5321 section 4.5.3.1)."""
MAX_PASSWORD_OCTETS = 1_024

_CATEGORIES = frozenset({"Ll", "Lu", "Lo", "Lm", "Nd", "Mn", "Mc"})
"""Letters, digits and marks: RFC 8264 section 9.1."""
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f")
_SELECTORS = (("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef"))
"""Letters and marks that are not seen, and that directories leave out when they compare (RFC 4518 section 2.2)."""


def is_login(text: str) -> bool:
    r"""Whether somebody can be called so.

    >>> is_login("alice@example.net"), is_login("\uff22ob"), is_login("a b"), is_login("")
    (True, False, False, False)
    """
    if not 0 < len(text.encode("utf-8", "replace")) <= MAX_LOGIN_OCTETS:
        return False
    return all(_is_letter(character) for character in text)


def is_password(text: str) -> bool:
    """Whether it can be one: not empty, not too long, no control characters."""
    if not 0 < len(text.encode("utf-8", "replace")) <= MAX_PASSWORD_OCTETS:
        return False
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def _is_letter(character: str) -> bool:
    if character.isascii():
        return "!" <= character <= "~"
    if unicodedata.category(character) not in _CATEGORIES or character in _INVISIBLE:
        return False
    if any(first <= character <= last for first, last in _SELECTORS):
        return False
    return unicodedata.normalize("NFKC", character) == unicodedata.normalize("NFC", character)
