r"""A login in the names and filters of a directory, so that it says nothing there but itself.

>>> in_dn("uid={user},ou=people,dc=example,dc=net", "a,b+c")
'uid=a\\,b\\+c,ou=people,dc=example,dc=net'
>>> in_filter("(&(uid={user})(mail=*))", "a*)(uid=*")
'(&(uid=a\\2a\\29\\28uid=\\2a)(mail=*))'
"""

PLACE = "{user}"
_IN_DN = str.maketrans({character: f"\\{character}" for character in '"+,;<>\\= #'} | {"\0": "\\00"})
"""RFC 4514 section 2.4. Of "=", and of "#" and blanks that stand inside, it may be."""
_IN_FILTER = str.maketrans({character: f"\\{ord(character):02x}" for character in "\0()*\\"})
"""RFC 4515 section 3."""


def in_dn(template: str, login: str) -> str:
    """A distinguished name with a login in it."""
    return template.replace(PLACE, login.translate(_IN_DN))


def in_filter(template: str, login: str) -> str:
    """A filter with a login in it."""
    return template.replace(PLACE, login.translate(_IN_FILTER))
