"""``[api]``: what the API and its console are told.

Every setting has its default and its meaning beside it. Shares the door to pydantic with `reputation.config`.
"""

from typing import Annotated

from pydantic import Field, model_validator

from reputation.front_end_settings import Addresses, is_loopback
from reputation.rule_settings import Table, spelled


class ApiTlsSettings(Table):
    """``[api.tls]``: the API over TLS."""

    certificate: str
    """PEM file with the certificate chain."""
    key: str
    """PEM file with the private key."""
    client_ca: str = ""
    """PEM file with the authority of clients' certificates; where it is named, who has none is not let in at all."""


class ApiSettings(Table):
    """``[api]``: REST, the reputation query protocol and the console. Whoever asks needs a token (`reputon token`)."""

    listen: Addresses = ("127.0.0.1:8025",)
    """HOST:PORT to listen on; empty: `reputon serve` starts no API."""
    tls: ApiTlsSettings | None = None
    plain_from_anywhere: bool = False
    """Whether to listen on more than loopback without TLS, because a proxy of ours in front speaks it."""
    console: bool = True
    """Whether the console is served, at `/console`."""
    hours_logged_in: Annotated[float, Field(gt=0, le=720)] = 12.0
    """How long a log-in to the console lasts."""
    requests_per_second: Annotated[float, Field(gt=0)] = 100.0
    """What one token may ask for, of each API process; a token may have a number of its own. Checks are not bounded by
    this one."""
    max_body_bytes: Annotated[int, Field(ge=65_536, le=2**28)] = 2**21
    """Largest body of a request."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Events, or outcomes, of one request."""
    max_streams: Annotated[int, Field(ge=1)] = 100
    """Live streams at once; one more is told to come again."""
    reputation_for_everybody: bool = False
    """Whether the reputation query protocol (RFC 7072) answers whoever asks, without a token."""
    rater: Annotated[str, spelled(r"[A-Za-z0-9.-]{0,255}", "write the full name of a host")] = ""
    """Who says so in a reputon (RFC 7071); empty takes the machine's name."""

    @model_validator(mode="after")
    def _check_plain(self) -> "ApiSettings":
        outside = [text for text in self.listen if not is_loopback(text)]
        if outside and self.tls is None and not self.plain_from_anywhere:
            raise ValueError(
                f"listen: {outside[0]} is more than loopback, and tokens would go over the wire as they are: name a "
                "certificate in [api.tls], or write plain_from_anywhere = true if a proxy in front speaks TLS"
            )
        return self
