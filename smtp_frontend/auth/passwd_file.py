"""``passwd:FILE``: logins and hashes of our own (`reputation.passwords`).

Promises: an unknown login costs the same hash as one whose password is wrong, so time tells nobody who exists. The
file is looked at for every log-in, and read again when it is another; while it cannot be read, or has a mistake, the
last good one counts and the log says so once. Hashing is done in threads, as many as there are processors and at most
`MAX_THREADS`, so a flood of guesses takes bounded memory and never holds up mail.

A password that was right is remembered for `REMEMBERED_SECONDS`: mail programs log in for every message, and should not
wait behind those who guess. What is remembered is a BLAKE2 digest under a key that this process alone has, of login,
password and hash: it holds no password, and another hash in the file makes it worthless.

Bugs: where hashes of different cost stand in one file, an unknown login takes the time of the most usual. Whoever can
read this process' memory can guess at the remembered passwords faster than at the file's.
"""

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reputation.clock import Clock, SystemClock
from reputation.errors import ConfigError
from reputation.passwords import Logins, UncheckableError, decoy, matches, read_logins
from smtp_frontend.auth.contract import DENIED, Accepted, Verified, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.threads import Threads

MAX_THREADS = 4
MAX_FILE_BYTES = 64 * 2**20
REMEMBERED_SECONDS = 300.0
MAX_REMEMBERED = 10_000

Check = Callable[[str, str], bool]
"""Whether a hash is of a password; raises `UncheckableError`."""
Fingerprint = tuple[int, int, int, int]
"""What is another when a file is."""

log = logging.getLogger("reputon.auth")


class PasswdVerifier:
    """Checks passwords against a file."""

    def __init__(self, path: Path, *, check: Check = matches, clock: Clock | None = None) -> None:
        """Reads the file; raises `ConfigError` when there is none, or it has a mistake."""
        self._file = PasswdFile(path)
        self._check = check
        self._remembered = Remembered(clock or SystemClock())
        self._reader = Threads(1)
        self._hashers = Threads(min(MAX_THREADS, os.cpu_count() or 1))

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:  # noqa: ARG002 - of no use to a file
        """See `Verifier`."""
        content = await self._reader.run(self._file.current)
        user = credentials.user
        stored = content.logins.get(user)
        if stored and self._remembered.has(user, credentials.password, stored):
            return Accepted(user=user)
        try:
            is_right = await self._hashers.run(partial(self._check, stored or content.decoy, credentials.password))
        except UncheckableError as error:
            raise VerifierUnavailable(str(error)) from error
        if not stored or not is_right:
            return DENIED
        self._remembered.add(user, credentials.password, stored)
        return Accepted(user=user)

    async def close(self) -> None:
        """See `Verifier`."""
        self._reader.close()
        self._hashers.close()


@dataclass(frozen=True, slots=True)
class Content:
    """What a file said."""

    logins: Logins
    decoy: str
    """Checked in place of the hash of whoever is not in it."""


class PasswdFile:
    """The file, and who is in it. Waits for the disk: for threads."""

    def __init__(self, path: Path) -> None:
        """Reads it for the first time; raises `ConfigError`."""
        self._path = path
        self._lock = threading.Lock()
        self._told = ""
        try:
            self._seen: Fingerprint | None = self._fingerprint()
            self._content = self._read()
        except OSError as error:
            raise ConfigError(self._unreadable(error)) from None

    def current(self) -> Content:
        """What it says now; while that cannot be told, what it said last."""
        with self._lock:
            try:
                self._look()
            except OSError as error:
                self._seen = None  # permissions may be mended, and the file stay as it is
                self._tell(self._unreadable(error))
            except ConfigError as error:
                self._tell(str(error))
            return self._content

    def _look(self) -> None:
        now = self._fingerprint()
        if now == self._seen:
            return
        self._seen = now  # before it is read: what changes meanwhile is another file
        self._content = self._read()
        self._told = ""
        log.info("%s: read again, %d logins", self._path, len(self._content.logins))

    def _read(self) -> Content:
        with self._path.open("rb") as file:
            octets = file.read(MAX_FILE_BYTES + 1)
        if len(octets) > MAX_FILE_BYTES:
            raise ConfigError(f"{self._path}: larger than {MAX_FILE_BYTES} bytes")
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._path}: no UTF-8 at octet {error.start}") from None
        logins = read_logins(text, str(self._path))
        return Content(logins, decoy(logins.values()))

    def _fingerprint(self) -> Fingerprint:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _unreadable(self, error: OSError) -> str:
        return f"{self._path}: cannot be read: {error.strerror}"

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            log.error("%s; who stood there before may go on logging in", trouble)


class Remembered:
    """Passwords that were right lately, as digests that nobody else can make."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = os.urandom(hashlib.blake2b.MAX_KEY_SIZE)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def has(self, user: str, password: str, stored: str) -> bool:
        """Whether this was found right not long ago."""
        return self._until.get(self._digest(user, password, stored), 0.0) > self._clock.monotonic()

    def add(self, user: str, password: str, stored: str) -> None:
        """It was found right. The oldest makes room."""
        digest = self._digest(user, password, stored)
        self._until[digest] = self._clock.monotonic() + REMEMBERED_SECONDS
        self._until.move_to_end(digest)
        if len(self._until) > MAX_REMEMBERED:
            self._until.popitem(last=False)

    def _digest(self, *parts: str) -> bytes:
        # None of the parts has a NUL in it.
        return hashlib.blake2b("\0".join(parts).encode(), key=self._key, digest_size=32).digest()
