"""SpamAssassin's spamd of our own: on a free port of loopback and on a socket, with a handful of rules of ours.

It knows GTUBE, and of the topmost Received and Return-Path: T_HELO (evil.example), T_IP4 (192.0.2.7), T_IP6
(2001:db8::7), T_RDNS (mail.example.org), T_AUTH (logged in), T_FROM (a@b.example).
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ServerProcess, free_port, require_binary

RULES = """
report_safe 0
required_score 5
util_rb_tld com org net example
body GTUBE /XJS\\*C4JDBQADN1\\.NSBN3\\*2IDNEN\\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\\*C\\.34X/
score GTUBE 1000
header T_HELO X-Spam-Relays-External =~ /^[^\\]]+ helo=evil\\.example /
score T_HELO 0.1
header T_IP4 X-Spam-Relays-External =~ /^\\[ ip=192\\.0\\.2\\.7 /
score T_IP4 0.1
header T_IP6 X-Spam-Relays-External =~ /^\\[ ip=2001:db8::7 /
score T_IP6 0.1
header T_RDNS X-Spam-Relays-External =~ /^[^\\]]+ rdns=mail\\.example\\.org /
score T_RDNS 0.1
header T_AUTH X-Spam-Relays-Trusted =~ /^[^\\]]+ auth=ESMTPS?A /
score T_AUTH 0.1
header T_FROM EnvelopeFrom =~ /^a\\@b\\.example$/
score T_FROM 0.1
"""


class Spamd(ServerProcess):
    """The running server."""

    def __init__(self, binary: str, directory: Path, *, on_socket: bool) -> None:
        directory.chmod(0o755)  # its children are not root
        for name in ("site", "rules"):
            (directory / name).mkdir()
        (directory / "site" / "init.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
        (directory / "rules" / "10_ours.cf").write_text(RULES)
        self.port = free_port()
        self.socket = directory / "spamd.sock"
        where = (f"--socketpath={self.socket}",) if on_socket else ("-i", f"127.0.0.1:{self.port}")
        directories = (f"--siteconfigpath={directory / 'site'}", f"--configpath={directory / 'rules'}")
        options = ("--local", "--nouser-config", "--max-children=2", "--min-children=1", "--syslog=stderr")
        super().__init__([binary, *options, *directories, *where], directory, lambda: "server started" in self.log)
        self.url = f"spamd://{self.socket}" if on_socket else f"spamd://127.0.0.1:{self.port}"


@contextmanager
def spamd(*, on_socket: bool = False) -> Iterator[Spamd]:
    """Debian's spamd for as long as the block runs; without it the test is skipped."""
    binary = require_binary("spamd", "spamd")
    with tempfile.TemporaryDirectory(prefix="reputon-spamd-") as directory:
        server = Spamd(binary, Path(directory), on_socket=on_socket)
        server.start()
        try:
            yield server
        finally:
            server.stop()
