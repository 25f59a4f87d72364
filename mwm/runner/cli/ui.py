"""ui: MLflow's page, with links to the views of a sweep."""

from __future__ import annotations

import signal
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mwm.runner.cli.comparing import page_of
from mwm.runner.cli.options import make_console
from mwm.storage.redaction import redact
from mwm.storage.tracking_uri import is_server, resolve_tracking_uri

if TYPE_CHECKING:
    from mwm.runner.tracking.views import Shown


def ui(
    name: Annotated[
        str | None, Parameter(name="NAME", help="A sweep that MLflow holds; without it all of them.")
    ] = None,
    /,
    *,
    tracking_uri: Annotated[
        str | None, Parameter(help="MLflow to show; without it MLFLOW_TRACKING_URI, else mlflow.db in this folder.")
    ] = None,
    experiment: Annotated[
        str | None, Parameter(help="Experiment to look for sweeps in; without it all of them.")
    ] = None,
    port: Annotated[
        int | None, Parameter(help="Port of the page; without it 5000, or a free one if that is taken.")
    ] = None,
    open_: Annotated[bool, Parameter(name="--open", help="Open the first view in a browser.")] = False,
) -> int:
    """Show MLflow's page, with links to the views of sweeps.

    For a database it is started, until Ctrl-C, and listens on this machine alone. Of a server the links are printed.
    """
    if port is not None and not 0 < port < 65_536:
        raise ValueError(f"--port: {port} is not allowed: must be 1 to 65535")
    uri = resolve_tracking_uri(tracking_uri)
    from mwm.runner.tracking.views import shown_sweeps

    shown = shown_sweeps(uri, experiment)
    if name is not None:
        shown = _named(shown, name, uri)
    if is_server(uri):
        _print(page_of(uri), shown, open_=open_)
    else:
        _serve(uri, port, shown, open_=open_)
    return 0


def _serve(uri: str, port: int | None, shown: Sequence[Shown], *, open_: bool) -> None:
    """Show the page of a database until a signal comes."""
    from mwm.runner.tracking.server import free_port, page_server

    found = free_port(port or 5000)
    if port is not None and found != port:
        raise ValueError(f"--port: {port} is taken; name another, or leave it out")
    with _until_signal() as stopped, page_server(uri, found) as page:
        _print(page, shown, open_=open_)
        print("stop it by Ctrl-C", flush=True)
        stopped.wait()


def _named(shown: Sequence[Shown], name: str, uri: str) -> list[Shown]:
    """The sweep of that name, of each experiment that holds it."""
    if found := [one for one in shown if one.sweep == name]:
        return found
    there = ", ".join(dict.fromkeys(one.sweep for one in shown)) or "none"
    hint = f"launch.py sync {name} brings one from results/"
    raise ValueError(f"NAME: {name!r} has no views in {redact(uri)}; sweeps that have: {there}; {hint}")


def _print(page: str, shown: Sequence[Shown], *, open_: bool) -> None:
    """Print the address of each view, and what it shows."""
    from mwm.runner.tracking.views import VIEWS, view_path

    console = make_console()
    links = [(one, view, page + view_path(one.experiment_id, one.sweep, view)) for one in shown for view in one.views]
    for number, (one, view, link) in enumerate(links):
        if number == 0 or links[number - 1][0] is not one:
            console.out(f"{one.sweep}:", highlight=False)
        console.out(f"  {view}: {VIEWS[view]}", highlight=False)
        console.out(f"    {link}", highlight=False)
    if not links:
        console.out(page, highlight=False)
    if open_:
        webbrowser.open(links[0][2] if links else page)


@contextmanager
def _until_signal() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set: what was started is then ended in good order."""
    came = Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: came.set()) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
