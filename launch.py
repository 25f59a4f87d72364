"""The command line of mwm."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mwm import commands

LINE = 120
"""Width of what is printed where no terminal says its own."""


def parser() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    top = argparse.ArgumentParser(prog="launch.py", description="Watermark networks, steal them, see what survives.")
    verbs = top.add_subparsers(dest="command", required=True)
    run = verbs.add_parser("run", help="run a sweep, or go on with it")
    check = verbs.add_parser("check", help="read a sweep, show its trials and their number; starts nothing")
    for verb in (run, check):
        verb.add_argument("config", type=Path, help="YAML file of a sweep, such as tune_configs/quickstart.yaml")
        verb.add_argument("--set", action="append", default=[], metavar="a.b=1", help="change one value of the file")
        verb.add_argument("--name", help="name of the sweep, in place of the file's")
        verb.add_argument("--tag", action="append", default=[], metavar="k=v", help="free tag on every MLflow run")
    run.add_argument("--address", help="Ray cluster to join; default RAY_ADDRESS, else one on this machine")
    run.add_argument("--tracking-uri", help="MLflow; default MLFLOW_TRACKING_URI, else mlflow.db in this folder")
    run.add_argument("--storage", type=Path, default=Path(), help="folder of results/ and store/; default this folder")
    run.add_argument("--resume", action="store_true", help="go on with a sweep that exists; refuse to begin one")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked; a mistake of the user is one line per fault on stderr and exit status 2."""
    asked = parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=LINE)
    try:
        sweep = commands.read(asked.config, asked.set, asked.name, asked.tag)
        if asked.command == "check":
            return commands.check(sweep, console)
        return commands.run(
            sweep,
            console,
            storage=asked.storage,
            address=asked.address,
            tracking_uri=asked.tracking_uri,
            resume=asked.resume,
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
