"""Log lines as the journal likes them: one line each on stderr, with a priority when systemd reads them, never with a secret."""

import logging
import os
import re
import sys
import traceback

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]{1,15}://)\S*@", re.IGNORECASE)     # up to the last @: a password may hold / and @
SECRET_FIELD = re.compile(r"""\b(password|token|secret|response|sig)("?\s*=\s*"?|"\s*:\s*")[^\s,;&"']+""", re.IGNORECASE)
SECRET_HEADER = re.compile(r"\b(bearer|basic|digest) +[A-Za-z0-9+/=_.~-]{12,}", re.IGNORECASE)
LINE_MAX = 1000


def start_logging(process: str, level: int = logging.INFO) -> None:
    """Sends all log records of this process to stderr, as lines that begin with its name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(process, journal=under_journal()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


def under_journal() -> bool:
    """True if stderr goes to the journal (systemd.exec, JOURNAL_STREAM=device:inode)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class LineFormatter(logging.Formatter):
    """One line a record; an exception is its type, message and place."""

    def __init__(self, process: str, *, journal: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._process = process
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line: <priority> for the journal, else the time and the level; then the process and the message."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += f" [{one_line(record.exc_info[1])}]"
        text = redacted(" ".join(text.split()))[:LINE_MAX]
        if self._journal:
            return f"<{PRIORITIES.get(record.levelno, 5)}>{self._process}: {text}"
        return f"{self.formatTime(record, self.datefmt)} {record.levelname.lower()} {self._process}: {text}"


def one_line(error: BaseException) -> str:
    """An exception with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def redacted(text: str) -> str:
    """The text without userinfo in addresses and without what follows password, token and their like; a last line of defence."""
    return SECRET_HEADER.sub(r"\1 ***", SECRET_FIELD.sub(r"\1\2***", USERINFO.sub(r"\1***@", text)))
