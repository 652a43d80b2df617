"""The service's log: one JSON object a line on standard output. Nothing that a user sent ever goes into it."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """A record as one line. ``extra={"fields": {...}}`` adds to it.

    Of an exception only the type and the places in the code are kept: its message may quote a text.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
            entry["trace"] = [line.strip() for line in traceback.format_tb(record.exc_info[2])]
        return json.dumps(entry)


def configure_logging() -> None:
    """Send everything below the logger ``xal`` to standard output, whatever the server does with the others."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("xal")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
