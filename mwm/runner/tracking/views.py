"""Saved views of MLflow's page: tables and charts that open by a link, kept as tags of an experiment."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mwm.config.spec import digest
from mwm.runner.tracking.client import MAX_TAG_CHARS, OLD_MAX_CHARS, MlflowExperiment, experiments, open_store
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code, tracking_error
from mwm.runner.tracking.runs import SWEEP

VIEW, KIND, NOTE = "mlflow.sharedViewState.", "mlflow.experimentKind", "mlflow.note.content"
"""MLflow's own tags: how those of views begin, for what an experiment is, and its description."""

WROTE, ABSENT = "mwm.wrote.", "-"
"""How the tag begins that remembers what was written to another one, and what stands there for nothing."""

VIEWS = {
    "attacks": "what survives each attack, the most proof first",
    "victims": "what each watermark costs, and what its worst attack leaves",
    "trade-off": "points of accuracy that a watermark costs against -log10 p after its worst attack",
    "learning": "accuracy on validation images and on queries by epoch",
}
"""The views of a sweep, and what each shows."""

CHARTS = ("trade-off", "learning")
"""The views that open with charts."""

PROOF, WORST, COST = "neg_log10_p", "worst_neg_log10_p", "accuracy_cost"
METRICS = {
    "attacks": (PROOF, COST, "accuracy_drop", "query_acc"),
    "victims": (WORST, COST, "clean_acc", PROOF),
    "trade-off": (WORST, COST, "clean_acc"),
    "learning": ("clean_acc", "query_acc"),
}
TAGS = {"attacks": ("decision",), "victims": ("worst_attack", "decision")}
CURVES = ("val_acc", "query_acc", "loss")
"""What is a column of each view beside the parameters in which trials differ, and what is drawn by epoch."""

WIDTHS = (100, 260)
"""The least and the largest width of a column, in pixels."""

NAMES = "attributes.`Run Name`"

State = dict[str, Any]


@dataclass(frozen=True)
class Varied:
    """The parameters in which the trials of a sweep differ, the most telling first.

    Those of `victims` and of `attacks`, and those in which victims of the commonest scheme differ: an axis of a chart
    leaves out the runs that have no value there. `threats` are the tags in which threat models differ. `attacked` tells
    whether there are attacks at all, `searched` whether Optuna chose the victims, of which some are then on its front.
    """

    victims: Sequence[str] = ()
    attacks: Sequence[str] = ()
    axes: Sequence[str] = ()
    threats: Sequence[str] = ()
    attacked: bool = True
    searched: bool = False

    def shortened(self, count: int) -> Varied:
        """The first `count` of each."""
        return replace(self, victims=self.victims[:count], attacks=self.attacks[:count], axes=self.axes[:count])


def view_id(sweep: str, view: str) -> str:
    """Under which id a view is kept: several sweeps may share an experiment."""
    return f"{sweep}-{view}"


def view_path(experiment_id: str, sweep: str, view: str) -> str:
    """The address of a view below that of the server.

    Without `workflowType` the page is one for chat applications, whatever the experiment says.
    """
    charts = "&compareRunsMode=CHART" if view in CHARTS else ""
    place = f"/#/experiments/{experiment_id}/runs?viewStateShareKey={view_id(sweep, view)}"
    return f"{place}&workflowType=machine_learning{charts}"


def views_of(*, attacked: bool) -> list[str]:
    """The views of a sweep: without attacks it has none of them."""
    return [view for view in VIEWS if attacked or view != "attacks"]


def view_links(experiment_id: str, sweep: str, *, attacked: bool) -> dict[str, str]:
    """The addresses of all views of a sweep, from the page of the same server."""
    return {view: view_path(experiment_id, sweep, view).removeprefix("/") for view in views_of(attacked=attacked)}


def recorded_views(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """The sweeps of which an experiment with these tags has views, and which of those are still there."""
    begin, end = WROTE + VIEW, view_id("", "victims")
    sweeps = [tag[len(begin) : -len(end)] for tag in tags if tag.startswith(begin) and tag.endswith(end)]
    return {sweep: [view for view in VIEWS if VIEW + view_id(sweep, view) in tags] for sweep in sweeps}


@dataclass(frozen=True)
class Shown:
    """A sweep in an experiment of MLflow, and the views that it has there."""

    sweep: str
    experiment_id: str
    views: Sequence[str]


def shown_sweeps(uri: str, experiment: str | None = None) -> list[Shown]:
    """The sweeps that have views in the store at `uri`, or in one experiment of it; the newest first.

    Raises ValueError, in one line, if the store cannot be reached.
    """
    try:
        found = [*experiments(open_store(uri), experiment)]
    except Exception as error:
        raise tracking_error(uri, error) from None
    return [
        Shown(sweep, one.experiment_id, views) for one in found for sweep, views in recorded_views(one.tags).items()
    ]


def write_views(experiment: MlflowExperiment, sweep: str, varied: Varied) -> None:
    """Write the views of a sweep; raises as MLflow raises."""
    there = experiment.tags()
    if KIND not in there:
        experiment.log_experiment_tags({KIND: "custom_model_development"})
    for place, view in enumerate(views_of(attacked=varied.attacked)):
        text = _fitting(sweep, view, varied, place=place)
        write_own(experiment.log_experiment_tags, there, tag=VIEW + view_id(sweep, view), text=text)


def write_own(log: Callable[[Mapping[str, str]], object], there: Mapping[str, str], *, tag: str, text: str) -> None:
    """Write a tag, unless somebody else has changed or removed it, or a server takes no text of that length.

    A tag beside it remembers the digest of what was written: while that is done also of what stands there, so that an
    end in between does no harm.
    """
    now, wrote = there.get(tag), there.get(WROTE + tag, ABSENT).split()
    before = ABSENT if now is None else digest(now)
    if before in wrote and now != text:
        log({WROTE + tag: f"{before} {digest(text)}"})
        try:
            log({tag: text})
        except Exception as error:
            if error_code(error) in PERMANENT_ERRORS and len(text) > OLD_MAX_CHARS:
                return
            raise
        log({WROTE + tag: digest(text)})


def _fitting(sweep: str, view: str, varied: Varied, *, place: int) -> str:
    """A view as MLflow keeps it, with as many parameters as a tag has room for."""
    count = max(len(varied.victims), len(varied.attacks))
    while len(text := _packed(sweep, view, varied.shortened(count), place=place)) > MAX_TAG_CHARS and count:
        count -= 1
    return text


def _packed(sweep: str, view: str, varied: Varied, *, place: int) -> str:
    state = json.dumps(_state(sweep, view, varied), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(state.encode(), 9)).decode()
    return json.dumps(
        {"name": f"{view} · {sweep}", "createdAt": place, "updatedAt": place, "state": f"deflate;{packed}"}
    )


def _state(sweep: str, view: str, varied: Varied) -> State:
    """The page: which runs, in which order, with which columns and charts."""
    kind = "attack" if view == "attacks" else "victim"
    params = [*varied.victims, *(varied.attacks if kind == "attack" else ())]
    tags = [*TAGS.get(view, ()), *(varied.threats if kind == "attack" else ())]
    columns = [f"metrics.`{name}`" for name in METRICS[view]] + [f"tags.`{name}`" for name in tags]
    columns = [name for name in columns if varied.attacked or "worst" not in name]
    columns += ["metrics.`on_front`"] if varied.searched and kind == "victim" else []
    columns += [f"params.`{name}`" for name in params]
    state: State = {
        "searchFilter": f"tags.kind = '{kind}' and tags.`{SWEEP}` = '{sweep}'",
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": [NAMES, *columns],
        "columnWidths": {NAMES: 400 if kind == "attack" else 260, **{name: _width(name) for name in columns}},
        "runsHiddenMode": "SHOW_ALL",
    }
    if view in CHARTS:
        charts = _trade_off(varied) if view == "trade-off" else _curves()
        state["compareRunCharts"] = [_CHART | chart | {"uuid": f"{number}"} for number, chart in enumerate(charts)]
        state["compareRunSections"] = [_section(view, display=True), _section("Model metrics", display=False)]
        state["isAccordionReordered"] = True
    return state


def _width(column: str) -> int:
    least, most = WIDTHS
    return 240 if "worst_attack" in column else min(most, max(least, 8 * len(column.split("`")[1]) + 16))


_CHART = {"deleted": False, "isGenerated": False, "metricSectionId": "0", "runsCountToCompare": 100}


def _section(name: str, *, display: bool) -> State:
    """A section of charts; MLflow draws all other metrics in the one called "Model metrics"."""
    own = {"deleted": False, "isReordered": False, "isGenerated": not display, "columns": 2, "cardHeight": 440}
    return {"uuid": "0" if display else "1", "name": name, "display": display, **own}


def _trade_off(varied: Varied) -> list[State]:
    proof = WORST if varied.attacked else PROOF
    points = {axis: {"key": name, "type": "METRIC"} for axis, name in (("xaxis", COST), ("yaxis", proof))}
    lines = {"selectedParams": list(varied.axes), "selectedMetrics": [COST, proof], "showAllRuns": True}
    return [{"type": "SCATTER", **points}, {"type": "PARALLEL", **lines}]


def _curves() -> list[State]:
    own = {"type": "LINE", "xAxisKey": "step", "lineSmoothness": 0}
    return [{**own, "metricKey": name, "selectedMetricKeys": [name], "displayName": name} for name in CURVES]
