"""Files that are written as a whole or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NEW_FILE_MODE = 0o600


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A new file, which has the name of the old one when the block has ended well. Raises OSError.

    It takes over the old one's owner, and who may read it; where there was none, only its owner may.
    """
    status = file.stat() if file.exists() else None
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as new:
            yield new
            new.flush()
            if status is None:
                os.fchmod(new.fileno(), NEW_FILE_MODE)
            else:
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(new.fileno(), status.st_uid, status.st_gid)
                os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
            os.fsync(new.fileno())
        Path(name).replace(file)
    except BaseException:  # Ctrl-C, too: half a file must not stay behind
        with suppress(OSError):
            Path(name).unlink()
        raise
