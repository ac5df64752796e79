"""What the server says beside its access log, as JSON lines too."""

import logging
import time

import msgspec


class JsonLines(logging.Formatter):
    """One object a record: time (RFC 3339, UTC), level, logger, message, the fields that were
    given as `extra={"fields": {…}}`, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_as_json() -> None:
    """In a worker: the loggers below `slipway` write JSON lines to stderr, and nobody else does
    it once more."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("slipway")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
