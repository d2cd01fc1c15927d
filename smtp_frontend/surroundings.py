"""What all sessions of a process share."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ssl import SSLContext

from reputation.certificates import Certificates
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.front_end_settings import AuthSettings, SmtpSettings
from smtp_frontend.auth import open_verifier
from smtp_frontend.auth.contract import Verifier
from smtp_frontend.crowd import Crowd, Turns
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.next_hop.contract import NextHop
from smtp_frontend.relaying import Relaying
from smtp_frontend.sleepers import Sleepers
from smtp_frontend.spool import Spool

MAX_LOG_INS_OF_ONE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sessions of a process share."""

    engine: Engine
    next_hop: NextHop
    settings: SmtpSettings
    hostname: str
    sleepers: Sleepers
    crowd: Crowd
    log_ins: Turns
    """Log-ins that are being checked: those of one client do not take all places."""
    relaying: Relaying
    spool: Spool
    services: Mapping[str, NextHop] = field(default_factory=dict)
    """Next hops of their own for classes of service."""
    tls: SSLContext | None = None
    """Where it is configured; its certificates may change with time."""
    verifier: Verifier | None = None
    """Who knows the passwords."""

    @property
    def max_recipients(self) -> int:
        """Of one transaction: what every next hop that it may end up with can take."""
        hops = (self.next_hop, *self.services.values())
        return min(self.settings.max_recipients, *(hop.max_recipients or self.settings.max_recipients for hop in hops))


def surroundings(settings: SmtpSettings, engine: Engine) -> Surroundings:
    """What the sessions of `settings` share, but for what has to be let go of in the end. Raises `ConfigError`."""
    hostname = settings.hostname or socket.gethostname()

    def opened(url: str) -> NextHop:
        return open_next_hop(url, hostname=hostname, timeout_seconds=settings.next_hop_timeout_seconds)

    return Surroundings(
        engine=engine,
        next_hop=opened(settings.next_hop),
        services={name: opened(url) for name, url in settings.services.items()},
        settings=settings,
        hostname=hostname,
        sleepers=Sleepers(max_sleepers=settings.max_sleepers, metrics=engine.metrics),
        crowd=Crowd(settings.max_sessions_per_ip),
        log_ins=Turns(MAX_LOG_INS_OF_ONE, settings.auth.deadline_seconds if settings.auth else 0.0),
        relaying=Relaying(settings),
        spool=Spool(above_bytes=settings.spool_bytes, directory=settings.spool_directory),
    )


@asynccontextmanager
async def open_surroundings(settings: SmtpSettings, engine: Engine) -> AsyncIterator[Surroundings]:
    """What the sessions of a process share, for as long as the block runs. Raises `ConfigError`."""
    async with opened_files(settings) as (tls, verifier):
        yield replace(surroundings(settings, engine), tls=tls, verifier=verifier)


@asynccontextmanager
async def opened_files(settings: SmtpSettings) -> AsyncIterator[tuple[SSLContext | None, Verifier | None]]:
    """What the settings name files for: certificates, which are kept fresh, and passwords. Raises `ConfigError`."""
    if settings.spool_directory and not os.access(settings.spool_directory, os.W_OK | os.X_OK):
        raise ConfigError(f"[smtp] spool_directory: {settings.spool_directory} is no directory that can be written to")
    certificates = Certificates(settings.tls) if settings.tls is not None else None
    hostname = settings.hostname or socket.gethostname()
    verifier = _verifier(settings.auth, hostname) if settings.auth is not None else None
    renewing = asyncio.create_task(certificates.keep_fresh(), name="certificates") if certificates else None
    try:
        yield certificates.context if certificates else None, verifier
    finally:
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        if verifier is not None:
            await verifier.close()


def _verifier(auth: AuthSettings, hostname: str) -> Verifier:
    try:
        return open_verifier(auth, hostname)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith("[") else f"[smtp.auth] url: {text}") from None
