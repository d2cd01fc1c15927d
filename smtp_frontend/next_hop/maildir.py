"""``maildir:DIRECTORY``: a next hop that is a Maildir on this machine (https://cr.yp.to/proto/maildir.html).

A message is written to ``tmp/``, fsynced, renamed into ``new/``, and ``new/`` is fsynced before we say 250:
it is there after a crash, and nobody ever sees half of it. Files have LF line ends, as Maildirs on Unix do, and
begin with ``Return-Path:`` (RFC 5321 section 4.4) and one ``Delivered-To:`` for each recipient. The
directories are made at the first delivery. All of it happens in a thread, off the event loop.

Promises: those of `contract`. Every recipient that can be an address is accepted, all share the one Maildir.
A full disk is 452 4.3.1, any other trouble with the files 451 4.3.0. A cancelled delivery is not completed,
unless it was already being renamed.

Does not do: quotas, folders, one Maildir per user, IMAP's file name flags.

Bugs: a Return-Path or Delivered-To that the message brought along is kept below ours. What a crash leaves in
``tmp/`` stays there; Maildir readers delete it after 36 hours.
"""

import asyncio
import errno
import itertools
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from smtp_frontend.next_hop.content import BareLineEnding, is_path, whole_lines
from smtp_frontend.next_hop.contract import NO_OPTIONS, MailOptions, Part
from smtp_frontend.next_hop.replies import (
    BAD_RECIPIENT,
    BAD_SENDER,
    BARE_LINE_ENDING,
    BROKEN,
    DISK_FULL,
    NO_RECIPIENTS,
    STORAGE_TROUBLE,
)
from smtp_frontend.reply import Reply

SENDER_OK = Reply(250, "Sender OK", "2.1.0")
RECIPIENT_OK = Reply(250, "Recipient OK", "2.1.5")
DELIVERED = Reply(250, "Delivered", "2.0.0")
DIRECTORIES = ("tmp", "new", "cur")

LOG = logging.getLogger("reputon.next_hop")

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DELIVERIES = itertools.count(1)


class MaildirNextHop:
    """One Maildir."""

    max_recipients: int | None = None

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def connect(self) -> "MaildirConnection":
        """A connection that writes no file before `MaildirConnection.data`."""
        return MaildirConnection(self._directory)


class MaildirConnection:
    """The transactions of one client session."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def mail(self, sender: str, options: MailOptions = NO_OPTIONS) -> Reply:  # noqa: ARG002 - a file takes all
        """Begin a transaction."""
        await self.reset()
        if not is_path(sender):
            return BAD_SENDER
        self._sender = sender
        return SENDER_OK

    async def begin(self, sender: str, options: MailOptions, recipient: str) -> tuple[Reply, Reply]:
        """The same, with its first recipient."""
        reply = await self.mail(sender, options)
        return (reply, await self.rcpt(recipient)) if reply.positive else (reply, reply)

    async def rcpt(self, recipient: str) -> Reply:
        """Add a recipient."""
        if self._sender is None:
            return BROKEN
        if not recipient or not is_path(recipient):
            return BAD_RECIPIENT
        self._recipients.append(recipient)
        return RECIPIENT_OK

    async def data(self, parts: Iterable[Part]) -> Reply:
        """Write the file."""
        sender, recipients = self._sender, self._recipients
        await self.reset()
        if sender is None:
            return BROKEN
        if not recipients:
            return NO_RECIPIENTS
        abandoned = threading.Event()
        try:
            await asyncio.to_thread(_deliver, self._directory, _header(sender, recipients), parts, abandoned)
        except BareLineEnding:
            return BARE_LINE_ENDING
        except OSError as error:
            LOG.warning("maildir:%s: %s", self._directory, str(error))  # itself it would hold the message, by its trace
            return DISK_FULL if error.errno in _FULL else STORAGE_TROUBLE
        except asyncio.CancelledError:
            abandoned.set()  # the thread cannot be stopped, but the message need not appear
            raise
        return DELIVERED

    async def reset(self) -> None:
        """Give the transaction up."""
        self._sender, self._recipients = None, []

    async def close(self) -> None:
        """The same; nothing is held open."""
        await self.reset()


def _header(sender: str, recipients: Iterable[str]) -> bytes:
    """The trace fields of final delivery. No address can hold a line end: `is_path` has seen them all."""
    fields = [f"Return-Path: <{sender}>", *(f"Delivered-To: {recipient}" for recipient in recipients)]
    return "".join(f"{field}\n" for field in fields).encode()


def _deliver(maildir: Path, header: bytes, parts: Iterable[Part], abandoned: threading.Event) -> None:
    """tmp/ -> new/, durably. Raises `OSError` or `BareLineEnding`, and then the message is nowhere."""
    _make(maildir)
    name = _unique_name()
    written, delivered = maildir / "tmp" / name, maildir / "new" / name
    try:
        _write(written, header, parts)
        if abandoned.is_set():
            return
        written.rename(delivered)
        _sync_directory(delivered.parent)
    except OSError:
        delivered.unlink(missing_ok=True)
        raise
    finally:
        written.unlink(missing_ok=True)


def _make(maildir: Path) -> None:
    """The three directories, where they are missing."""
    if all((maildir / name).is_dir() for name in DIRECTORIES):
        return
    for name in DIRECTORIES:
        (maildir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    _sync_directory(maildir)
    _sync_directory(maildir.parent)


def _write(path: Path, header: bytes, parts: Iterable[Part]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(header)
        for block in whole_lines(parts):
            file.write(block.replace(b"\r\n", b"\n"))
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique_name() -> str:
    """A name that no other delivery on any machine uses: time, process, delivery of the process, chance, host."""
    seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    chance = secrets.token_hex(4)
    return f"{seconds}.M{microseconds}P{os.getpid()}Q{next(_DELIVERIES)}R{chance}.{host}"
