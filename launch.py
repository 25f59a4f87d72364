#!/usr/bin/env python3
"""Start the command line of mwm."""

import os
import sys

if __name__ == "__main__" and sys.getfilesystemencoding() != "utf-8":
    # To this program, to Ray and to MLflow names of files and words of a command are UTF-8, whatever the locale says.
    # What is printed stays as it was.
    os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": getattr(sys.stdout, "encoding", "utf-8")}
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])

from mwm.runner.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
