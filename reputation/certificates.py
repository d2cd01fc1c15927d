"""The certificates of our side of TLS: for STARTTLS, and for TLS from the first octet.

    certificates = Certificates(settings)       raises ConfigError
    certificates.context                        for start_tls and for create_server
    await certificates.keep_fresh()             until cancelled

A client that says which name it wants (SNI) gets the certificate of NAME.pem and NAME.key in `directory`, or else of
`_.PARENT.pem`, or else the one of `certificate` and `key`. MTAs that verify say a name (RFC 8461, RFC 7672).

Promises: TLS 1.2 at least (RFC 8996), no renegotiation, and else what OpenSSL and Python hold to be good: ciphers are
not a setting. Files that have changed are read again within `CHECK_SECONDS`. One that cannot be used leaves the old one
in force, and is an error in the log, once until it changes again. Handshakes that are under way keep what they have.

How renewed files are found: a task looks at all of them, in a thread. *Considered:* to look when a handshake begins.
Then either a handshake waits for a disk, or the first one after a quiet night gets a certificate that may have expired;
and nobody is told of a bad file before a client comes. Now a handshake does no more than to look a name up.

How they get into force: `context` holds no certificate. It has each handshake choose a context by name, so whoever has
`context` never needs another one, and a new key may be of another kind than the old one.

Where clients need a certificate of an authority of ours (`client_ca`), a handshake without one fails. The authority's
file is read at the start only.

An expired certificate is an error in the log, not at start: most MTAs take it, and mail that flows is worth more.

Bugs: whether a certificate is for the name that its file says is not looked at. A client whose SNI is not ASCII gets no
handshake, and leaves a line of Python's own on standard error.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reputation.certificate_dates import Dates, dates_of
from reputation.clock import Clock, SystemClock
from reputation.errors import ConfigError
from reputation.front_end_settings import TlsSettings
from reputation.list_files import MISSING, Fingerprint

CHECK_SECONDS = 30.0
WARNED_DAYS = 7
"""From how many days before its end on a certificate is warned of, once a day."""
MAX_NAMES = 1_000
"""In the directory. Each takes some 20 kB."""
MAX_FILE_BYTES = 2**20

_DAY_SECONDS = 86_400
_MINIMUM_VERSION = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_NAME = re.compile(r"(?:_\.)?(?:[a-z0-9][a-z0-9_-]{0,62}\.)*[a-z0-9][a-z0-9_-]{0,62}")
_ANY = "_."
_DEFAULT = ""
"""The name under which the default certificate is kept."""

log = logging.getLogger("reputon.tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A certificate and its key, and what they are called in messages."""

    setting: str
    certificate: Path
    key: Path

    def fingerprints(self) -> tuple[Fingerprint, Fingerprint]:
        """What is another when one of the files is."""
        return _fingerprint(self.certificate), _fingerprint(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A certificate that is in force."""

    files: Files
    context: ssl.SSLContext
    dates: Dates


class Certificates:
    """All certificates of one process. Raises `ConfigError` when one of them cannot be used.

    `table` is what the settings are called in messages; `client_ca` a PEM file with the authority of clients.
    """

    def __init__(
        self, settings: TlsSettings, clock: Clock | None = None, *, table: str = "[smtp.tls]", client_ca: str = ""
    ) -> None:
        self._settings = settings
        self._table = table
        self._client_ca = _octets(f"{table} client_ca", Path(client_ca)) if client_ca else b""
        self.clock = clock or SystemClock()
        self._loaded: dict[str, Loaded] = {}
        self._tried: dict[str, tuple[Fingerprint, Fingerprint]] = {}
        self._days_told: dict[str, int] = {}
        self._directory_trouble = ""
        mistakes = [*self._read_changed()]
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        self.context = self._with_clients(_context(settings.minimum_version))
        self.context.sni_callback = self._choose
        self._tell_ends()

    def _with_clients(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """The context, which takes no client without a certificate where there is an authority of theirs."""
        if self._client_ca:
            try:
                context.load_verify_locations(cadata=self._client_ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise ConfigError(f"{self._table} client_ca: no certificates in it, in PEM") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def keep_fresh(self, every_seconds: float = CHECK_SECONDS) -> None:
        """Read again what has changed, until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception:  # the top of a job that must not end: no certificate would be renewed any more
                log.exception("certificates are not read")

    def refresh(self) -> None:
        """Read again what has changed, and warn of what ends soon. Waits for disks, so it is for a thread."""
        for mistake in self._read_changed():
            log.error("a certificate stays as it was: %s", mistake)
        self._tell_ends()

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, in the event loop's thread."""
        connection.context = self.chosen(name or "").context

    def chosen(self, name: str) -> Loaded:
        """What is in force for a client that asks for a name; empty for one that asks for none."""
        name, loaded = name.lower(), self._loaded
        found = loaded.get(name) or loaded.get(_ANY + name.partition(".")[2])  # RFC 9525 section 6.3: one label
        return found or loaded[_DEFAULT]

    def _read_changed(self) -> Iterator[str]:
        """Load what is not as it was; yields what is wrong with the rest."""
        named = {_DEFAULT: self._default_files()}
        try:
            named |= self._files_of_directory()
        except ConfigError as error:
            if self._directory_trouble != (trouble := str(error)):
                yield trouble
            self._directory_trouble = trouble
        else:
            self._directory_trouble = ""
            self._forget(self._tried.keys() - named.keys())
        for name, files in named.items():
            fingerprints = files.fingerprints()
            if self._tried.get(name) != fingerprints:
                self._tried[name] = fingerprints
                try:
                    self._take(name, files)
                except ConfigError as error:
                    yield str(error)

    def _take(self, name: str, files: Files) -> None:
        """Put a certificate into force. Raises `ConfigError`."""
        if name != _DEFAULT and _NAME.fullmatch(name) is None:
            raise ConfigError(
                f"{files.setting}: {files.certificate} is not called like a host: write mx.example.net.pem, or "
                "_.example.net.pem for all names in example.net, in lower case and ASCII"
            )
        now, old = self.clock.now(), self._loaded.get(name)
        new = load(files, self._settings.minimum_version)
        self._with_clients(new.context)  # a handshake is verified by the context that it ends with
        if old is not None:
            if new.dates.ends_at < now < old.dates.ends_at:
                raise ConfigError(f"{files.setting}: {files.certificate} has expired, and the one in force has not")
            log.info("%s: %s is read again", files.setting, files.certificate)
        self._days_told.pop(name, None)
        self._loaded = {**self._loaded, name: new}  # handshakes look into it meanwhile

    def _forget(self, names: set[str]) -> None:
        """Files that are no longer in the directory are no longer served."""
        for name in names:
            del self._tried[name]
            self._days_told.pop(name, None)
        self._loaded = {name: each for name, each in self._loaded.items() if name not in names}

    def _default_files(self) -> Files:
        tls = self._settings
        setting = f"{self._table} certificate, key"
        return Files(setting=setting, certificate=Path(tls.certificate), key=Path(tls.key))

    def _files_of_directory(self) -> dict[str, Files]:
        """Those in the directory, by name. Raises `ConfigError`."""
        if not self._settings.directory:
            return {}
        directory = Path(self._settings.directory)
        try:
            paths = [path for path in directory.iterdir() if path.suffix in (".pem", ".key") and path.name[0] != "."]
        except OSError as error:
            raise ConfigError(f"{self._table} directory: {directory} cannot be read: {error.strerror}") from None
        names = sorted({path.name[: -len(path.suffix)] for path in paths})
        if len(names) > MAX_NAMES:
            raise ConfigError(f"{self._table} directory: more than {MAX_NAMES} certificates in {directory}")
        setting = f"{self._table} directory"
        return {
            name: Files(setting=setting, certificate=directory / f"{name}.pem", key=directory / f"{name}.key")
            for name in names
        }

    def _tell_ends(self) -> None:
        now = self.clock.now()
        for name, each in self._loaded.items():
            days = int((each.dates.ends_at - now) // _DAY_SECONDS)
            told, self._days_told[name] = self._days_told.get(name), days
            path = each.files.certificate
            if told is None and each.dates.begins_at > now:
                log.warning("%s: %s is not valid yet", each.files.setting, path)
            if days < 0 and told != days:
                log.error("%s: %s has expired", each.files.setting, path)
            elif days < WARNED_DAYS and told != days:
                log.warning("%s: %s is valid for less than %d days: renew it", each.files.setting, path, days + 1)
            elif told is None:
                log.info("%s: %s is valid for %d days", each.files.setting, path, days)


def load(files: Files, minimum_version: str) -> Loaded:
    """A certificate with its key. Raises `ConfigError`."""
    pem, key = (_octets(files.setting, path) for path in (files.certificate, files.key))
    context = _context(minimum_version)
    try:
        dates = dates_of(pem)
        context.load_cert_chain(files.certificate, files.key, _refuse_encrypted)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = _reason(error, key)
        raise ConfigError(f"{files.setting}: {files.certificate} with {files.key} cannot be used: {reason}") from None
    return Loaded(files=files, context=context, dates=dates)


def _context(minimum_version: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _MINIMUM_VERSION[minimum_version]  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class _EncryptedKeyError(ValueError):
    """Nobody is there to be asked for a password."""


def _refuse_encrypted() -> NoReturn:
    raise _EncryptedKeyError("the key is encrypted with a password: write it without one, readable to reputon only")


def _reason(error: Exception, key: bytes) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the first certificate in the file"
    if b"PRIVATE KEY-----" not in key:
        return "no private key in the key file"
    return error.reason.lower().replace("_", " ") if error.reason else "its certificates or its key are damaged"


def _octets(setting: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from None


def _fingerprint(path: Path) -> Fingerprint:
    try:
        return Fingerprint.of(path.stat())
    except OSError:
        return MISSING
