"""What went wrong, in the log of the user's program."""

from __future__ import annotations

import contextlib
import functools
import logging


def log(level: int, message: str, *args: object) -> None:
    """Log, with the traceback of an error; a log handler that raises does not reach the agent."""
    with contextlib.suppress(Exception):
        # Looked up here, because logging.config disables the loggers that exist when it runs.
        logger = logging.getLogger("strands_token_telemetry")
        logger.log(level, message, *args, exc_info=level == logging.ERROR)


@functools.lru_cache(maxsize=1000)  # bounded, because programs may make up names, one for each request
def warn_once(message: str, *args: object) -> None:
    """Log a warning, unless it has been logged before."""
    log(logging.WARNING, f"{message} (this warning is logged once)", *args)
