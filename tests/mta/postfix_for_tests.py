"""A Postfix of our own: configured, running and logging in a directory of its own, on a free port of loopback.

    with postfix() as server:
        with server.client("192.0.2.7", user="alice") as smtp:
            smtp.sendmail("a@example.com", ["bob@example.net"], "Subject: x\\n\\nx\\n")
        server.wait_for_log("removed", 1)

What it takes it throws away (discard), except for ``@bad.example`` (bounces) and ``@later.example`` (deferred). In
example.net there are bob, carol, and team, which is both. Clients say with XCLIENT who they are.
"""

import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import free_port, missing, require_binary, wait_until

MAIN = """
compatibility_level = 3.6
config_directory = {directory}/etc
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = mx.example.net
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = all
mynetworks = 0.0.0.0/0, [::]/0
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
enable_long_queue_ids = {long_ids}
default_transport = discard
virtual_transport = discard
virtual_mailbox_domains = example.net
virtual_mailbox_maps = inline:{{ {{bob@example.net=x}}, {{carol@example.net=x}} }}
virtual_alias_maps = inline:{{ {{team@example.net=bob@example.net carol@example.net}} }}
transport_maps = inline:{{ {{bad.example=smtp:[127.0.0.1]:{hop}}}, {{later.example=smtp:[127.0.0.1]:{nobody}}} }}
alias_maps =
alias_database =
bounce_notice_recipient = nobody@void.example
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """The running server."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    @contextmanager
    def client(self, address: str, user: str = "", name: str = "mail.example.com") -> Iterator[smtplib.SMTP]:
        """An SMTP client that says that it is at `address`, and who has logged in."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as smtp:
            smtp.ehlo("client.example")
            shown = f"IPV6:{address}" if ":" in address else address
            words = f"ADDR={shown} NAME={name}" + (f" LOGIN={user}" if user else "")
            assert smtp.docmd("XCLIENT", words)[0] == 220
            smtp.ehlo("client.example")
            yield smtp

    def wait_for_log(self, text: str, times: int) -> None:
        """Wait until the log has so many lines with a text."""
        wait_until(lambda: self.log.read_text().count(text) >= times, f"{times} times {text!r} in the log", 30)


@contextmanager
def postfix(*, long_ids: bool = False) -> Iterator[Postfix]:
    """A Postfix for as long as the block runs."""
    program = require_binary("postfix", "postfix")
    sink = require_binary("smtp-sink", "postfix")
    if os.geteuid():
        missing("a Postfix of our own is started by root only")
    directory = Path(tempfile.mkdtemp(prefix="reputon-postfix-"))
    try:
        directory.chmod(0o755)  # its daemons are not root
        port, hop = free_port(), free_port()
        _write(directory, port, hop, long_ids=long_ids)
        command = [program, "-c", str(directory / "etc")]
        refusing = subprocess.Popen([sink, "-u", "nobody", "-f", "RCPT", f"127.0.0.1:{hop}", "10"])
        try:
            subprocess.run([*command, "start"], check=True, capture_output=True, timeout=30)
            try:
                wait_until(lambda: listens(port) and listens(hop), "Postfix is ready")
                yield Postfix(port, directory / "mail.log")
            finally:
                subprocess.run([*command, "stop"], check=False, capture_output=True, timeout=30)
        finally:
            refusing.terminate()
            refusing.wait(10)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write(directory: Path, port: int, hop: int, *, long_ids: bool) -> None:
    for name in ("etc", "spool", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    main = MAIN.format(directory=directory, hop=hop, nobody=free_port(), long_ids="yes" if long_ids else "no")
    (directory / "etc" / "main.cf").write_text(main)
    (directory / "etc" / "master.cf").write_text(MASTER.format(port=port))


def listens(port: int) -> bool:
    """Whether anybody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(params=[False, True], ids=["short-ids", "long-ids"])
def server(request: pytest.FixtureRequest) -> Iterator[Postfix]:
    """A Postfix."""
    with postfix(long_ids=request.param) as running:
        yield running
