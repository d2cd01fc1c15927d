"""A directory of our own: Debian's slapd, configured and filled in a directory of its own, on free ports of loopback.

In ``ou=people,dc=example,dc=net`` there are alice ("open sesame"), "a,b+c" ("comma"), and two with the mail address
``team@example.net``. Whoever searches must bind, as ``cn=search,dc=example,dc=net`` ("search"). What is below
``ou=moved`` another server is said to have, `elsewhere`. Somebody who binds with an empty password is taken for
anonymous, and told success: many directories are configured so.
"""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.servers import ServerProcess, TlsFiles, free_port, missing, require_binary, tls_files

PACKAGE = "slapd"
SCHEMAS = Path("/etc/ldap/schema")
MODULES = Path("/usr/lib/ldap")
BASE = "dc=example,dc=net"
PEOPLE = f"ou=people,{BASE}"
MOVED = f"ou=moved,{BASE}"
USER_DN = f"uid={{user}},{PEOPLE}"
SEARCH_DN = f"cn=search,{BASE}"

CONFIG = """
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
modulepath {modules}
moduleload back_mdb
pidfile {directory}/slapd.pid
TLSCACertificateFile {tls.ca}
TLSCertificateFile {tls.certificate}
TLSCertificateKeyFile {tls.key}
allow bind_anon_dn
database mdb
suffix "dc=example,dc=net"
directory {directory}/data
maxsize 10485760
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=search,dc=example,dc=net" read by anonymous auth by * none
"""
ENTRIES = r"""
dn: dc=example,dc=net
objectClass: dcObject
objectClass: organization
o: Example

dn: cn=search,dc=example,dc=net
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: search

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit

dn: ou=moved,dc=example,dc=net
objectClass: referral
objectClass: extensibleObject
ref: ldap://127.0.0.1:ELSEWHERE/ou=moved,dc=example,dc=net

dn: uid=alice,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x
mail: alice@example.net
userPassword: open sesame

dn: uid=a\,b\+c,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x
uid: a,b+c
userPassword: comma

dn: uid=star\2a,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x
uid: star*
userPassword: star

dn: uid=locked,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x

dn: uid=bob,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x
mail: team@example.net
userPassword: same

dn: uid=carol,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
sn: x
cn: x
mail: team@example.net
userPassword: same
"""


class DirectoryServer(ServerProcess):
    """The running directory."""

    def __init__(self, program: str, directory: Path, tls: TlsFiles) -> None:
        self.port, self.tls_port, self.tls = free_port(), free_port(), tls
        self.elsewhere = free_port()
        self.socket = directory / "ldapi"
        unproved = f"{self.url} {self.tls_url}".replace("127.0.0.1", "127.0.0.2")  # no name in the certificate
        listening = f"{self.url} {self.tls_url} {unproved} ldapi://{quote(str(self.socket), safe='')}"
        config = directory / "slapd.conf"
        super().__init__([program, "-d", "0", "-f", config, "-h", listening], directory, self._listens)

    @property
    def url(self) -> str:
        """Without TLS, or with STARTTLS."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """By TLS."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def _listens(self) -> bool:
        try:
            for port in (self.port, self.tls_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return self.socket.exists()


@contextmanager
def directory_server() -> Iterator[DirectoryServer]:
    """A directory for as long as the block runs."""
    program = require_binary("slapd", PACKAGE)
    if not (SCHEMAS / "core.schema").exists() or not MODULES.exists():
        missing(f"apt-get install -y {PACKAGE}")
    with tempfile.TemporaryDirectory(prefix="reputon-test-slapd-") as name:
        directory = Path(name)
        (directory / "data").mkdir()
        server = DirectoryServer(program, directory, tls_files(directory))
        places = {"schemas": SCHEMAS, "modules": MODULES, "directory": directory}
        (directory / "slapd.conf").write_text(CONFIG.format(tls=server.tls, **places))
        (directory / "entries.ldif").write_text(ENTRIES.strip().replace("ELSEWHERE", str(server.elsewhere)) + "\n")
        fill = [require_binary("slapadd", PACKAGE), "-f", f"{name}/slapd.conf", "-l", f"{name}/entries.ldif"]
        subprocess.run(fill, check=True, capture_output=True, timeout=30)
        server.start()
        try:
            yield server
        finally:
            server.stop()
