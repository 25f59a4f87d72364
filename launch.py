#!/usr/bin/env python3
"""Start the command line of mwm."""

import sys

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
