"""Log records as JSON, one object in each line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import final

#: The attribute of a record that has its fields.
FIELDS = "trio_sse"


@final
class JSONFormatter(logging.Formatter):
    """Formats records as JSON objects.

    Each has `time` (ISO 8601, UTC, in milliseconds), `level`, `logger` and `message`. Lines about streams and
    requests also have their fields, such as `id`, `peer`, `path` and `reason`; and an error has its traceback
    as `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, FIELDS, None)
        if isinstance(fields, dict):
            line.update((name, value) for name, value in fields.items() if name not in line)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, ensure_ascii=False, default=str)
