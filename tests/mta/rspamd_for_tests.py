"""An rspamd of our own, on a free port of loopback, in a directory of its own, without Redis and without the DNS.

    with rspamd() as server:
        ... f"rspamd://127.0.0.1:{server.port}"
        server.freeze()     # its workers answer nothing
        server.stop()

It knows GTUBE by itself. Otherwise a message says what becomes of it:

    X-Test-Action: soft reject     the action, with "try again later" for the client
    X-Test-Virus: Eicar            what a scanner has found
    X-Test-Fields: yes             fields to add (X-Spam, X-Many twice) and to take away (X-Old)

`server.told` has what rspamd was told about the last message, as its rules see it.
"""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ServerProcess, free_port, require_binary

SNIPPET = Path(__file__).resolve().parents[2] / "deploy" / "mta" / "rspamd" / "worker-normal.inc"
"""What operators are told to write; at another port here."""
CONFIG = """
options {{
    filters = "";
    pidfile = "{directory}/rspamd.pid";
    tempdir = "{directory}";
    control_socket = "{directory}/control.sock mode=0600";
    cache_file = "{directory}/symbols.cache";
    hs_cache_dir = "{directory}/";
    history_file = "{directory}/history";
    url_tld = "{directory}/tld";
    enable_test_patterns = true;
    dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
}}
lua = "{directory}/rules.lua";
logging {{ type = "console"; level = "info"; color = false; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
group "antivirus" {{ symbols {{ JUST_EICAR {{ weight = 15; }} }} }}
worker "normal" {{
{worker}
    count = 1;
    mime = true;
}}
"""
RULES = """
rspamd_config:register_symbol({
  name = 'ECHO', score = 0.0, type = 'normal',
  callback = function(task)
    local file = io.open('%s/told', 'w')
    local function tell(name, value)
      if value ~= nil then file:write(name, '=', tostring(value), '\\n') end
    end
    tell('helo', task:get_helo())
    tell('user', task:get_user())
    tell('ip', task:get_from_ip())
    tell('hostname', task:get_hostname())
    for _, from in ipairs(task:get_from('smtp') or {}) do tell('from', from.addr) end
    for _, rcpt in ipairs(task:get_recipients('smtp') or {}) do tell('rcpt', rcpt.addr) end
    for _, name in ipairs({'Queue-Id', 'Flags', 'Settings', 'Injected', 'MTA-Name', 'Password'}) do
      tell(name, task:get_request_header(name))
    end
    tell('size', task:get_size())
    file:close()
    return true, 1.0, 'told'
  end})
local found = rspamd_config:register_symbol({
  name = 'CLAM_VIRUS', score = 0.0, type = 'normal', group = 'antivirus',
  callback = function(task)
    local action, virus = task:get_header('X-Test-Action'), task:get_header('X-Test-Virus')
    if action then task:set_pre_result(action, 'try again later') end
    if virus == 'Eicar' then
      task:insert_result('JUST_EICAR', 1.0, virus)
    elseif virus then
      task:insert_result('CLAM_VIRUS', 1.0, virus)
    end
    if task:get_header('X-Test-Fields') then
      task:set_milter_reply({
        add_headers = {
          ['X-Spam'] = 'Yes,\\r\\n\\tsure',
          ['X-Many'] = {{value = '1', order = 0}, {value = '2', order = 1}},
        },
        remove_headers = {['X-Old'] = 0},
      })
    end
  end})
rspamd_config:register_symbol({
  name = 'JUST_EICAR', type = 'virtual', parent = found, score = 15.0, group = 'antivirus',
})
"""


class Rspamd(ServerProcess):
    """The running server."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.port = free_port()
        worker = SNIPPET.read_text().replace("127.0.0.1:11333", f"127.0.0.1:{self.port}")
        (directory / "rspamd.conf").write_text(CONFIG.format(directory=directory, worker=worker))
        (directory / "rules.lua").write_text(RULES % directory)
        (directory / "tld").write_text("com\norg\nexample\n")  # its own list takes seven seconds to compile
        as_root = () if os.geteuid() else ("-i", "-u", "root", "-g", "root")
        super().__init__([binary, "-f", *as_root, "-c", directory / "rspamd.conf"], directory, self._pongs)

    @property
    def url(self) -> str:
        """Its address."""
        return f"rspamd://127.0.0.1:{self.port}"

    @property
    def told(self) -> list[str]:
        """What it was told about the last message, as NAME=VALUE."""
        return (self.directory / "told").read_text().splitlines()

    def freeze(self) -> None:
        """Stop its workers: connections are taken, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            os.kill(int(child), number)

    def _pongs(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
                return b"pong" in connection.recv(4_096, socket.MSG_WAITALL)
        except OSError:
            return False


@contextmanager
def rspamd() -> Iterator[Rspamd]:
    """Debian's rspamd for as long as the block runs; without it the test is skipped."""
    binary = require_binary("rspamd", "rspamd")
    with tempfile.TemporaryDirectory(prefix="reputon-rspamd-") as directory:
        server = Rspamd(binary, Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()
