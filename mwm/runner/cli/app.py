"""The command line of mwm: its commands, and how a mistake is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import BoundArguments
from typing import Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from mwm.runner.cli.options import as_option
from mwm.runner.cli.output import protect_output
from mwm.trials.provenance import __version__

COMMANDS = {
    "run": ("sweeps:run", "Run a sweep, or resume it."),
    "check": (
        "sweeps:check",
        "Read a sweep; tell its trials, its data and who gets what; start nothing.",
    ),
    "status": ("workspace:status", "Show how a sweep is getting on, while it runs and after."),
    "list": ("workspace:list_", "Show all sweeps in results/, one line each."),
    "report": ("report:report", "Write a report on a sweep, or on several that are compared."),
    "sync": ("workspace:sync", "Bring to MLflow what it has missed of a sweep; may be repeated."),
    "ui": ("ui:ui", "Show MLflow's page, with links to the views of sweeps."),
    "clean": ("workspace:clean", "List what no sweep needs, or remove it."),
    "verify": ("verify:verify", "Query suspects with a key; exit status 0 proven, 3 not, 4 inconclusive."),
    "commit": ("keys:commit", "Show the commitment to a key, to publish before the network."),
    "open": ("keys:open_", "Check a key against a commitment; exit status 3 if it is another key's."),
    "export": ("keys:export", "Copy the key of a victim out of a store."),
    "model": ("models:model", "Write the network of a finished trial as a file for others, or register it."),
    "power": ("power:power", "Show how many queries prove a copy."),
    "schema": ("sweeps:schema", "Print the JSON Schema of a sweep file."),
}
"""Where the function of each command lies, imported only when it is asked for, and what it does."""

SHOWING = {"status", "list", "commit", "power", "schema"}
"""Commands that have done nothing where their output could not be written; of others the status says something else."""

RENAMED = {"verify": {"--again": "--rerun", "--null": "--null-models", "--report": "--output"}}
"""Options of the release before this one."""


class Program(App):
    """An application whose name may hold a dot, which completion scripts of cyclopts do not allow."""

    def generate_completion(self, *, prog_name: str | None = None, shell: Any = None) -> str:
        """The completion script of a shell."""
        name = prog_name or self.name[0]
        plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        text = super().generate_completion(prog_name=plain, shell=shell)
        return re.sub(rf"(?<![\w-]){re.escape(plain)}(?![\w-])", name, text)


def make_app(asked: str = "") -> App:
    """The commands and their options, read from the functions; the docstring is read of the command `asked` alone.

    To read one takes an import of what the command needs.
    """
    made = Program(
        name="launch.py",
        help="Watermark networks, attack them, see what survives.",
        version=f"mwm {__version__}",
        help_format="markdown",
        default_parameter=Parameter(negative=(), allow_repeating=True),
    )
    for number, (name, (place, what)) in enumerate(COMMANDS.items()):
        made.command(f"mwm.runner.cli.{place}", name=name, help=None if name == asked else what, sort_key=number)
    if asked not in COMMANDS:  # its import takes longer than all else here
        made.register_install_completion_command(help="Install the completion of commands and options for your shell.")
    return made


def parse(words: Sequence[str]) -> tuple[Callable[..., Any], BoundArguments]:
    """The function that a command line asks for, and its arguments; ValueError, in one line, for a mistake."""
    words = _joined(words)
    asked, *others = words or [""]
    _check_words(asked, others)
    try:
        command, bound, _ = make_app(asked).parse_args(words, exit_on_error=False, print_error=False)
    except UnusedCliTokensError as error:
        word = (error.unused_tokens or [""])[0]
        raise ValueError(f"{word}: is not allowed here: write a value that holds spaces in quotes") from None
    except CycloptsError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except ValueError as error:
        raise ValueError(as_option(str(error))) from None
    return command, bound


def _joined(words: Sequence[str]) -> list[str]:
    """The words with those that begin with a negative number, and hold more, joined to the option before them."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and re.match(r"-[\d.]+[,/]", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _check_words(asked: str, others: Sequence[str]) -> None:
    """Refuse a command that is not known, and the old word of an option, before anything slow is imported."""
    if asked and not asked.startswith("-") and asked not in COMMANDS:
        close = get_close_matches(asked, COMMANDS, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"{asked}: unknown command{hint}; allowed: {', '.join(COMMANDS)}")
    for word in others:
        option = word.partition("=")[0]
        if new := RENAMED.get(asked, {}).get(option):
            raise ValueError(f"{option}: unknown option (did you mean {new}?)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked; a mistake of the user is one line per fault on stderr and exit status 2."""
    try:
        command, bound = parse(sys.argv[1:] if arguments is None else arguments)
        return command(*bound.args, **bound.kwargs) or 0
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "mwm").startswith("mwm"):
            raise
        print(f"{error.name}: is not installed for {sys.executable}; see docs/quickstart.md", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def program() -> int:
    """The command of this process. What becomes of its output changes nothing but the status of `SHOWING`."""
    output = protect_output()
    asked = sys.argv[1] if sys.argv[1:] else ""
    output.tell_gone = asked == "run"
    status = main()
    sys.stdout.flush()
    return 2 if output.failed and (asked in SHOWING or asked not in COMMANDS) else status
