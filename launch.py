#!/usr/bin/env python3
"""Start the command line of mwm."""

import os
import sys

if __name__ == "__main__" and sys.getfilesystemencoding() != "utf-8":
    # To this program, to Ray and to MLflow names of files and words of a command are UTF-8, whatever the locale says.
    # What is printed stays as it was.
    os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": getattr(sys.stdout, "encoding", "utf-8")}
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])

try:
    if sys.version_info < (3, 11):  # noqa: UP036 - any Python may be asked to start this
        raise ModuleNotFoundError("Python 3.11 or later is needed")
    from mwm.runner.cli.app import main, program
except ModuleNotFoundError as error:
    if (error.name or "").startswith("mwm"):
        raise
    print(f"{sys.executable}: cannot run mwm ({error}); use .venv/bin/python, which `make run` makes", file=sys.stderr)
    sys.exit(2)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(program())
