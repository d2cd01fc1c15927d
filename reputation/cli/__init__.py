"""The `reputon` command.

Exit status: 0 done; 1 a mistake in the configuration or in what was asked for; 2 wrong usage; 3 the store, the API or
a program did not start or does not answer, or refuses us.

Errors are one line on standard error (one per mistake for a configuration). Programs are started as
processes, never imported, so this command works where only a part of reputon is installed.
"""

import sys
from collections.abc import Sequence

from reputation.cli.app import app
from reputation.cli.printing import note, printable
from reputation.errors import ConfigError, ReputonError

EXIT_CONFIG = 1
EXIT_STORE = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: runs the command and exits."""
    printable(sys.stdout, sys.stderr)
    try:
        app(args=arguments)
    except ReputonError as error:
        note(str(error))
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_STORE)
