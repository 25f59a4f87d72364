"""The command line of mwm."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mwm.stats.binomial import DEFAULT_LEVEL

LINE = 120
"""Width of what is printed where no terminal says its own."""

CLEAN = """
What is kept: every trial that the journal or the table of a sweep in results/ names, finished or not, and the victims
of its attacks. To let go of a sweep, remove its folder (rm -r results/NAME): its trials, unless another sweep shares
them, are then no longer needed, and `clean` lists them. Nothing is done while a sweep is running.
"""


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
    run.add_argument("--resume", action="store_true", help="go on with a sweep that exists; refuse to begin one")
    for verb in (run, *_looking(verbs), _keys(verbs)):
        verb.add_argument(
            "--storage", default=".", help="folder of results/ and store/, or s3://BUCKET/PATH; default this folder"
        )
    _verify(verbs)
    for name in ("run", "sync"):
        uri = "MLflow; default MLFLOW_TRACKING_URI, else mlflow.db in this folder"
        verbs.choices[name].add_argument("--tracking-uri", help=uri)
    _power(verbs)
    return top


def _power(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """How many queries a verdict needs."""
    power = verbs.add_parser("power", help="how many queries prove a copy, for its survival rate and a level")
    power.add_argument("--classes", type=int, required=True, help="classes of the network")
    power.add_argument("--level", type=float, nargs="+", default=[DEFAULT_LEVEL, 1e-6], help="p-values that prove")
    power.add_argument("--survival", type=float, nargs="+", default=[0.2, 0.3, 0.4, 0.5, 0.7, 0.9], metavar="SHARE")
    power.add_argument("--power", type=float, default=0.9, metavar="CHANCE", help="chance of proof; default 0.9")
    power.add_argument(
        "--queries", type=int, nargs="+", default=[], metavar="N", help="show the power of N queries, too"
    )


def _looking(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> list[argparse.ArgumentParser]:
    """The verbs that need no file of a sweep."""
    listing = verbs.add_parser("list", help="show all sweeps in results/, one line each")
    status = verbs.add_parser("status", help="show how a sweep is getting on, while it runs and after")
    status.add_argument("--json", action="store_true", help="everything, for a program")
    sync = verbs.add_parser("sync", help="bring to MLflow what it has missed of a sweep; may be repeated")
    for verb in (status, sync):
        verb.add_argument("name", metavar="NAME", help="a sweep in results/")
    clean = verbs.add_parser(
        "clean", help="list what no sweep needs, or remove it", description="List what no sweep needs.", epilog=CLEAN
    )
    clean.add_argument("--delete", action="store_true", help="remove it, too")
    older = "spare what was written to in the last HOURS; default 24"
    clean.add_argument("--older-than", type=float, default=24.0, metavar="HOURS", help=older)
    return [listing, status, sync, clean]


def _verify(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb that asks suspects."""
    what = "ask suspects the queries of a key; exit status 0 owned, 1 not shown, 2 error"
    say = verbs.add_parser("verify", help=what).add_argument
    say("--key", type=Path, required=True, metavar="FOLDER", help="a key's folder, such as a victim's in the store")
    say("--suspect", dest="suspects", action="append", required=True, metavar="X", help="who is asked; may be repeated")
    say("--trust", action="store_true", help="open what may run code: all but safetensors, ONNX and endpoints")
    say("--commitment", metavar="HEX", help="what was published of the key; it must open it")
    say(
        "--level",
        type=float,
        default=DEFAULT_LEVEL,
        help=f"chance at which an innocent may be accused; default {DEFAULT_LEVEL:g}",
    )
    say("--sequential", action="store_true", help="decide by the sequential test, and stop as soon as it decides")
    say("--queries", type=int, metavar="N", help="ask only the first N; default all")
    say("--order-seed", type=int, default=0, metavar="S", help="of the order in which queries are asked; default 0")
    say("--null", type=Path, metavar="results/NAME", help="a sweep whose unmarked models are compared with")
    say("--batch", type=int, metavar="B", help="images in a request; default 100, at most 10 with --sequential")
    say("--timeout", type=float, default=30.0, metavar="S", help="seconds to wait for an answer; default 30")
    say("--retries", type=int, default=5, metavar="R", help="repetitions of a request that fails; default 5")
    say("--rate", type=float, metavar="R", help="requests in a second at most")
    say("--skip-unanswered", action="store_true", help="count queries that stay unanswered as not matched")
    again = "ask everything anew, into a folder of its own; else what was answered is not asked again"
    say("--again", action="store_true", help=again)
    say("--report", type=Path, metavar="FOLDER", help="where answers and report go; default in results/verdicts/")
    say("--json", action="store_true", help="the verdict, for a program")
    say("--tracking-uri", help="record it in this MLflow, too; default MLFLOW_TRACKING_URI, else none")
    say("--storage", default=".", help="folder of results/; default this folder")


def _keys(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The verbs about the key of a victim; the one that needs a store is the result."""
    commit = verbs.add_parser("commit", help="show the commitment to a key, to publish before the network is")
    request = "write a request by which a time stamping authority stamps it (RFC 3161)"
    commit.add_argument("--request", type=Path, metavar="FILE.tsq", help=request)
    opened = verbs.add_parser("open", help="check a key against a commitment; exit status 1 if it is another key's")
    opened.add_argument("--commitment", required=True, metavar="HEX", help="64 digits, as `commit` showed them")
    opened.add_argument("--recompute", action="store_true", help="draw the key again from its secret and its data")
    where = "with --recompute: where the data lie on this machine"
    opened.add_argument("--set", action="append", default=[], metavar="data.path=X", help=where)
    for verb in (commit, opened):
        verb.add_argument("key", type=Path, metavar="KEY", help="folder of key.json and queries.safetensors")
    export = verbs.add_parser("export", help="copy the key of a victim out of a store")
    export.add_argument("digest", metavar="DIGEST", help="the victim's, as in results.csv")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    return export


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked; a mistake of the user is one line per fault on stderr and exit status 2."""
    asked = parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=LINE)
    try:
        ways = {"run": _work, "check": _work, "commit": _key, "open": _key, "export": _key}
        ways |= {"power": _forecast, "verify": _prove}
        return ways.get(asked.command, _look)(asked, console)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _look(asked: argparse.Namespace, console: Console) -> int:
    # PyTorch takes seconds to import, and to look at a sweep needs none of it.
    from mwm.runner.cli import workspace
    from mwm.runner.workspace.location import StorageLocation

    place = StorageLocation(asked.storage)
    if asked.command == "clean" and place.remote:
        raise ValueError(f"--storage: {place.display_name} cannot be cleaned: sweeps elsewhere may be using it")
    place.download(getattr(asked, "name", ""))
    if asked.command == "list":
        return workspace.show_list(console, place.local_root)
    if asked.command == "status":
        return workspace.show_status(console, place.local_root, asked.name, as_json=asked.json)
    if asked.command == "clean":
        from mwm.storage.store import Store

        return workspace.show_garbage(
            console, place.local_root, Store(place.store), hours=asked.older_than, delete=asked.delete
        )
    from mwm.runner.execution.sync import sync_mlflow

    return sync_mlflow(console, place, name=asked.name, tracking_uri=asked.tracking_uri)


def _prove(asked: argparse.Namespace, console: Console) -> int:
    from mwm.storage.redaction import redact

    options = {name: value for name, value in vars(asked).items() if name not in ("command", "json")}
    try:
        from mwm.verification import verify
        from mwm.verification.options import VerifyOptions

        return verify.verify_command(VerifyOptions(**options), console, as_json=asked.json)
    except ValueError:
        raise
    except Exception as error:  # Python's own exit status would be 1, and that is a verdict
        print(f"error: {type(error).__name__}: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return 2


def _forecast(asked: argparse.Namespace, console: Console) -> int:
    from mwm.runner.cli import power

    return power.show(
        console,
        classes=asked.classes,
        levels=asked.level,
        survivals=asked.survival,
        power=asked.power,
        queries=asked.queries,
    )


def _key(asked: argparse.Namespace, console: Console) -> int:
    from mwm.runner.cli import keys

    if asked.command == "commit":
        return keys.show_commitment(console, asked.key, asked.request)
    if asked.command == "open":
        return keys.show_opened(console, asked.key, asked.commitment, again=asked.recompute, changes=asked.set)
    from mwm.runner.workspace.location import StorageLocation
    from mwm.storage.store import Store

    store = Store(StorageLocation(asked.storage).store)
    return keys.export(console, store, digest=asked.digest, folder=asked.folder)


def _work(asked: argparse.Namespace, console: Console) -> int:
    from mwm.runner.cli import sweeps

    sweep = sweeps.load_sweep(asked.config, asked.set, name=asked.name, tags=asked.tag)
    if asked.command == "check":
        return sweeps.show_check(sweep, console)
    from mwm.runner.execution import driver

    return driver.run_sweep(
        sweep,
        console,
        storage=asked.storage,
        address=asked.address,
        tracking_uri=asked.tracking_uri,
        resume=asked.resume,
    )


if __name__ == "__main__":
    sys.exit(main())
