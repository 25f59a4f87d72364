#!/usr/bin/env python3
"""Start the command line of mwm."""

import sys

from mwm.runner.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
