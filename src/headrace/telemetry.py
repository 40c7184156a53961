"""Logs of Headrace's own processes: structlog key-values on stderr, one event a line, no secrets.

Event names are constants of the module that emits them, such as `POD_STARTED = "pod.started"`. INFO is a state
change, WARNING needs a person some day, ERROR needs one now.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO, cast

# structlog imports Rich when it finds it, and Rich Pygments, for coloured tracebacks: 60 ms of CPU and 4 MiB in each of
# our processes. `None` is how Python is told that a module is absent; afterwards it is there again.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

_SECRET_WORDS = ("password", "token", "secret", "authorization", "access_key")


def _hide_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS) and isinstance(event[key], str):
            event[key] = "***"
    return event


class Expendable:
    """A stream whose failures are nobody's: on a full disk lines are lost, not the process that wrote them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(level: str = "INFO", *, process: str = "") -> None:
    """Send this process's logs to stderr as JSON lines (or coloured text on a terminal). Call once, at start."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Expendable(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    if process:
        structlog.contextvars.bind_contextvars(process=process)


def logger(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger with `bound` key-values on every event."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(**bound)
    return log
