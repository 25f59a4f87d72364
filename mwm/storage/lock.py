"""A lock on a file, which goes with the process that holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import IO, Any

RETRY_SECONDS = 0.05


def lock_file(file: IO[Any], *, shared: bool = False, patience: float = 0.0) -> bool:
    """Whether an open file could be locked within `patience` seconds, against everybody or `shared` with its like.

    The lock lasts until the file is closed, or the process is dead. A file that was taken away meanwhile keeps nobody
    off: its lock is none. Raises OSError where files cannot be locked at all.
    """
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() >= end:
                return False
            time.sleep(RETRY_SECONDS)
        else:
            return os.fstat(file.fileno()).st_nlink > 0
