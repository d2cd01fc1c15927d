"""Certificates and keys that the tests make, by `openssl`.

make_certificate(directory / "mx.example.net.pem")      and mx.example.net.key beside it
"""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.servers import require_binary

DAY_SECONDS = 86_400
CONFIG = """
[req]
distinguished_name = name
[name]
[ca]
default_ca = own
[own]
database = {directory}/index.txt
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""
EC = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
RSA = ("rsa:2048",)
WEAK = ("rsa:1024",)


def make_certificate(path: Path, *, kind: tuple[str, ...] = EC, begins_at: float = 0.0, ends_at: float = 0.0) -> Path:
    """A self-signed certificate called after its file, and its key in a .key file beside; for two days from now,
    or from one moment to another (seconds since the epoch). Both files are replaced at once, as renewals are."""
    require_binary("openssl", "openssl")
    work = path.parent / f".{path.stem}.work"
    work.mkdir(exist_ok=True)
    (work / "index.txt").write_text("")
    (work / "openssl.cnf").write_text(CONFIG.format(directory=work))
    new = ["-newkey", *kind, "-nodes", "-subj", f"/CN={path.stem}", "-keyout", str(work / "key")]
    config = ["-config", str(work / "openssl.cnf")]
    if ends_at:
        _openssl("req", *config, *new, "-out", str(work / "request"))
        dates = ["-startdate", _time(begins_at or ends_at - 30 * DAY_SECONDS), "-enddate", _time(ends_at)]
        signed = ["-selfsign", "-batch", "-notext", "-in", str(work / "request"), "-keyfile", str(work / "key")]
        _openssl("ca", *config, *signed, *dates, "-out", str(work / "certificate"))
    else:
        _openssl("req", *config, "-x509", "-days", "2", *new, "-out", str(work / "certificate"))
    (work / "key").rename(path.with_suffix(".key"))
    (work / "certificate").rename(path)
    return path


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%d%H%M%SZ}"
