"""A login and a password, as they were given to us.

Promises: neither `repr` nor a log line shows the password. Both are such as `reputation.logins` allows.
"""

from dataclasses import dataclass, field, replace

from reputation.logins import is_login, is_password
from reputation.spelling import canonical_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who somebody says he is, and his proof. Raises `ValueError` for what nobody is called."""

    login: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not is_login(self.login):
            raise ValueError("this is no login")
        if not is_password(self.password):
            raise ValueError("this is no password")

    @property
    def user(self) -> str:
        """The canonical spelling of the login: under this name the user is counted.

        >>> Credentials(login="Alice@Example.NET", password="x").user
        'alice@example.net'
        """
        return canonical_address(self.login, "")

    def within(self, domain: str) -> "Credentials":
        """The same with a domain, where the login has none and there is one to append; raises `ValueError`."""
        return replace(self, login=f"{self.login}@{domain}") if domain and "@" not in self.login else self
