"""Sockets that listen, and what is spoken on them: bound by ourselves, handed down to workers, or given by systemd.

    opened(settings)     those that systemd has given, and the others as the settings name them
    doubled(listeners)   the same for one more worker: TCP ports once more, all else shared
    handed_down(...)     how a worker is told which of its descriptors is what; `adopted` is what it makes of that

How addresses are bound: `reputation.listening`. Several workers have one queue each on the same TCP port
(SO_REUSEPORT); Linux spreads new clients over the queues.

Unix-domain sockets: whoever may enter the directory may ask, because Postfix runs as another user (mode 0666). To keep
others out, put the socket into a directory of its own and give that the group of Postfix. A socket that was left behind
by one who has crashed is replaced, one that somebody listens on is not. Ours is removed at the end.

systemd (sd_listen_fds(3)) names sockets after ``FileDescriptorName=``: ``smtp``, ``submission``, ``submissions``,
``policy``. One without a name is ``policy`` when it is a unix-domain socket, and otherwise ``smtp``; any other name is
a mistake, because a submission port with a slip in its name would take mail from anybody. What systemd gives of a kind
stands in place of the addresses of that kind in the settings.

Bugs: the kernel drops those who wait in the queue of a socket when the last process that has it closes it.
"""

import errno
import os
import socket
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reputation.config import Settings
from reputation.errors import ConfigError
from reputation.front_end_settings import is_loopback
from reputation.listening import BACKLOG, host_port, name_of, reason_of, socket_at, sockets_at

FIRST_FROM_SYSTEMD = 3
UNNAMED = ("", "unknown", "connection", "stored")
"""What systemd says where nobody has named a socket; or the name of the unit, which ends in `.socket`."""
EVERYBODY = 0o666


class Kind(StrEnum):
    """What is spoken on a socket."""

    SMTP = "smtp"
    SUBMISSION = "submission"
    SUBMISSIONS = "submissions"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that listens."""

    kind: Kind
    socket: socket.socket
    name: str
    """HOST:PORT, [IPV6]:PORT or unix:/PATH."""
    file: tuple[int, int] | None = None
    """Device and number of the file of a unix-domain socket that we have made, and remove."""


def opened(settings: Settings, environ: Mapping[str, str] = os.environ, *, reuse_port: bool = False) -> list[Listener]:
    """The sockets of systemd, and for kinds that it gives none of, those of the settings. Raises `ConfigError`."""
    given = inherited(environ)
    for listener in given:
        if listener.kind in (Kind.SUBMISSION, Kind.SUBMISSIONS) and None in (settings.smtp.auth, settings.smtp.tls):
            raise ConfigError(
                f"a socket of systemd ({listener.name}) is for {listener.kind}: that needs [smtp.auth] and [smtp.tls]"
            )
        if listener.kind is Kind.SMTP and not is_loopback(listener.name):
            try:
                settings.smtp.check_relaying()
            except ValueError as error:
                raise ConfigError(
                    f"a socket of systemd ({listener.name}) is for mail from anywhere: [smtp] {error}"
                ) from None
    return given + bind(settings, reuse_port=reuse_port, without={listener.kind for listener in given})


def bind(settings: Settings, *, reuse_port: bool, without: Collection[Kind] = ()) -> list[Listener]:
    """Listen on everything that the settings name, but for some kinds; all or nothing. Raises `ConfigError`."""
    smtp, listeners = settings.smtp, list[Listener]()
    for kind, setting, addresses in (
        (Kind.SMTP, "[smtp] listen", smtp.listen),
        (Kind.SUBMISSION, "[smtp] listen_submission", smtp.listen_submission),
        (Kind.SUBMISSIONS, "[smtp] listen_submissions", smtp.listen_submissions),
        (Kind.POLICY, "[policy_service] listen", settings.policy_service.listen),
    ):
        for address in addresses if kind not in without else ():
            try:
                listeners += _listening(kind, address, reuse_port=reuse_port)
            except OSError as error:
                close(listeners)
                raise ConfigError(f"{setting}: cannot listen on {address}: {reason_of(error)}") from None
    return listeners


def doubled(listeners: Iterable[Listener]) -> list[Listener]:
    """The sockets of one more worker: TCP ports that were bound with `reuse_port` once more, all else the same."""

    def once_more(listener: Listener) -> Listener:
        own = listener.socket
        if own.family == socket.AF_UNIX or not own.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            return Listener(kind=listener.kind, socket=own.dup(), name=listener.name)
        another = socket_at(own.family, own.getsockname(), reuse_port=True)
        return Listener(kind=listener.kind, socket=another, name=listener.name)

    try:
        return [once_more(listener) for listener in listeners]
    except OSError as error:
        raise ConfigError(f"cannot listen once more, for another worker: {reason_of(error)}") from None


def withdraw(listeners: Iterable[Listener]) -> None:
    """Remove the files of unix-domain sockets that are ours; nobody new finds them any more."""
    for listener in listeners:
        path = listener.name.removeprefix("unix:")
        with suppress(FileNotFoundError):
            if listener.file is not None and _file(path) == listener.file:
                Path(path).unlink()


def close(listeners: Sequence[Listener]) -> None:
    """Listen no more."""
    withdraw(listeners)
    for listener in listeners:
        listener.socket.close()


# Handed down


def handed_down(listeners: Iterable[Listener]) -> str:
    """What a process that inherits the descriptors is told about them, such as ``smtp=5,policy=6``."""
    return ",".join(f"{listener.kind}={listener.socket.fileno()}" for listener in listeners)


def adopted(text: str) -> list[Listener]:
    """The sockets of `handed_down`, in the process that has inherited them."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return [_inherited(int(descriptor), Kind(kind)) for kind, _, descriptor in pairs]


def inherited(environ: Mapping[str, str]) -> list[Listener]:
    """The sockets that systemd has opened for this process (sd_listen_fds(3)). Raises `ConfigError`."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []  # they are for the process that has started us
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(environ.get("LISTEN_FDS", "0"))
    names += [""] * (count - len(names))
    return [_inherited(descriptor, _kind(name)) for descriptor, name in enumerate(names[:count], FIRST_FROM_SYSTEMD)]


def _kind(name: str) -> Kind | None:
    if name in UNNAMED or name.endswith(".socket"):
        return None
    try:
        return Kind(name)
    except ValueError:
        raise ConfigError(
            f'systemd has given a socket named "{name}": write FileDescriptorName= {", ".join(Kind)}'
        ) from None


def _inherited(descriptor: int, kind: Kind | None) -> Listener:
    try:
        given = socket.socket(fileno=descriptor)
        is_listening = bool(given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise ConfigError(f"descriptor {descriptor} is no socket that was given to us: {reason_of(error)}") from None
    given.set_inheritable(False)
    if not is_listening or given.type != socket.SOCK_STREAM:
        raise ConfigError(f"the socket {descriptor} of systemd does not listen: write ListenStream= and Accept=no")
    by_family = Kind.POLICY if given.family == socket.AF_UNIX else Kind.SMTP
    if by_family is Kind.POLICY and kind not in (None, Kind.POLICY):
        raise ConfigError(f"the unix-domain socket {descriptor} of systemd is named {kind}: SMTP clients come by TCP")
    return Listener(kind=kind or by_family, socket=given, name=name_of(given))


# Bound


def _listening(kind: Kind, address: str, *, reuse_port: bool) -> list[Listener]:
    path = address.removeprefix("unix:")
    if path != address:
        return [Listener(kind=kind, socket=_unix(path), name=address, file=_file(path))]
    return [
        Listener(kind=kind, socket=each, name=name_of(each))
        for each in sockets_at(*host_port(address), reuse_port=reuse_port)
    ]


def _unix(path: str) -> socket.socket:
    _remove_stale(Path(path))
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        Path(path).chmod(EVERYBODY)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Make room, if what is there is a socket that nobody listens on. Raises `OSError`."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "File exists")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
            except BlockingIOError:
                pass  # so many wait there that it takes nobody else
        raise OSError(errno.EADDRINUSE, "Address already in use")


def _file(path: str) -> tuple[int, int]:
    found = Path(path).lstat()
    return found.st_dev, found.st_ino
