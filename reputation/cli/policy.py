"""`reputon policy test`: plays SMTP dialogues about a policy, in a process of their own.

The front end's rehearsal says how each went (``python -m smtp_frontend.rehearsal``); here its lines get colours.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

STYLES = {"pass": "green", "FAIL": "bold red"}
"""First word of a line -> how it is shown."""


def test(console: Console, scripts: Sequence[Path], config: Path, *, verbose: bool) -> int:
    """Play them; the exit status, 0 when all went well."""
    command = [sys.executable, "-m", "smtp_frontend.rehearsal", "--config", str(config), *(["-v"] if verbose else [])]
    with subprocess.Popen([*command, "--", *map(str, scripts)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in program.stdout:
            show(console, line.rstrip("\n"))
        return program.wait()


def show(console: Console, line: str) -> None:
    """Print one line of the program's."""
    console.print(Text(line, style=STYLES.get(line.partition(" ")[0], "")), soft_wrap=True)
