"""What was logged, while somebody listens."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Log(logging.Handler):
    """What was logged, line by line."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        """The messages of our own loggers."""
        return [record.getMessage() for record in self.records if record.name.startswith("reputon")]

    @property
    def traces(self) -> list[logging.LogRecord]:
        """Records that come with a traceback, and whatever asyncio complains about."""
        return [r for r in self.records if r.exc_info or (r.name == "asyncio" and r.levelno >= logging.WARNING)]


@contextmanager
def captured_log() -> Iterator[Log]:
    """Everything that reputon and asyncio log meanwhile, debug lines too."""
    log, loggers = Log(), [logging.getLogger("reputon"), logging.getLogger("asyncio")]
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addHandler(log)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(log)
            logger.setLevel(level)
