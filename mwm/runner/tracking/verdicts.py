"""Verdicts in MLflow: an experiment of that name, and a run for each suspect."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mwm.config.spec import digest
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code, reason, tracking_error
from mwm.runner.tracking.runs import to_metrics
from mwm.storage.tracking_uri import VERDICTS, experiment_name, resolve_tracking_uri
from mwm.trials.provenance import provenance
from mwm.verification.report.files import HANDOUT, VERDICT
from mwm.verification.report.page import CHECKSUMS
from mwm.verification.verdict import SuspectResult, Verdict

METRICS = (
    *("p_value", "log10_p", "adjusted_p_value", "p_labels", "log10_p_labels", "p_scores", "log10_p_scores"),
    *("wrong_answers", "right", "mean_rank", "matches", "match_rate", "unanswered", "seconds"),
)
"""The fields of a result that are numbers, and metrics of its run."""


RECORDED = "mwm.recorded"
"""The tag of a run that has all that is said of a suspect."""


def open_experiment(uri: str | None, name: str | None = None) -> MlflowExperiment | None:
    """Where the verdict is recorded, if that was asked for; ValueError if it cannot be reached.

    The experiment is called `name`; one that ends with / is a folder of it.
    """
    if not (uri or os.environ.get("MLFLOW_TRACKING_URI")):
        if name is not None:
            raise ValueError("--experiment: needs an MLflow; name it by --tracking-uri or MLFLOW_TRACKING_URI")
        return None
    address = resolve_tracking_uri(uri)
    experiment = experiment_name(name, VERDICTS, address)
    try:
        return MlflowExperiment(address, experiment)
    except Exception as error:
        raise tracking_error(address, error) from None


def log_verdict(experiment: MlflowExperiment, verdict: Verdict, folder: Path) -> None:
    """Make a run of MLflow for each suspect; the same verdict again makes none, and adds what a run lacks.

    A failure is a warning, and holds nothing else up. The answers stay where they are: what a copy answers is mostly
    the key's labels, and whoever reads a run would know them.
    """
    failures: dict[str, Exception] = {}
    for suspect in verdict.suspects:
        with _kept(failures, "runs"):
            name = digest(verdict.key, verdict.plan, suspect.to_dict())
            run = next(experiment.runs(f"tags.`mwm.digest` = '{name}'"), None)
            if run is None or run.data.tags.get(RECORDED) != "all":
                run_id = run.info.run_id if run else experiment.create(suspect.name, {"mwm.digest": name})
                _write(experiment, run_id, verdict=verdict, suspect=suspect, folder=folder, failures=failures)
    for why in sorted({reason(error) for error in failures.values()}):
        kinds = [kind for kind, error in failures.items() if reason(error) == why]
        first = "when that is mended, " if error_code(failures[kinds[0]]) in PERMANENT_ERRORS else ""
        hint = f"{first}the same command again records the rest"
        print(f"warning: MLflow: writing {', '.join(kinds)} failed: {why}; {hint}", file=sys.stderr)


@contextmanager
def _kept(failures: dict[str, Exception], kind: str) -> Iterator[None]:
    """Keep the first failure of each kind of write, and go on."""
    try:
        yield
    except Exception as error:
        failures.setdefault(kind, error)


def _write(
    experiment: MlflowExperiment,
    run_id: str,
    *,
    verdict: Verdict,
    suspect: SuspectResult,
    folder: Path,
    failures: dict[str, Exception],
) -> None:
    tags = {"kind": "verdict", "decision": suspect.decision, "suspect": suspect.name}
    tags |= {"key_commitment": verdict.key.commitment, **provenance()}
    control = verdict.plan.control.name if verdict.plan.control else "none"
    params = asdict(verdict.plan) | {"control": control, "access": suspect.access, "form": suspect.form}
    params |= {"classes": verdict.key.classes, "null": verdict.key.null}
    mine: dict[str, Exception] = {}
    with _kept(mine, "metrics"):
        experiment.log_metrics(run_id, to_metrics(_measured(suspect), time.time_ns() // 10**6, 0))
    with _kept(mine, "parameters"):
        experiment.log_params(run_id, params)
    with _kept(mine, "files"):
        for name in (VERDICT, HANDOUT, CHECKSUMS):
            experiment.log_artifact(run_id, folder / name)
    with _kept(mine, "tags"):
        experiment.log_tags(run_id, tags if mine else tags | {RECORDED: "all"})
    with _kept(mine, "runs"):
        experiment.terminate_run(run_id, "FINISHED")
    failures |= mine | failures


def _measured(suspect: SuspectResult) -> dict[str, float]:
    low, high = suspect.interval
    measured = {name: getattr(suspect, name) for name in METRICS}
    measured |= {"interval_low": low, "interval_high": high}
    measured |= {"cells_asked": suspect.asked, "images_asked": suspect.images}
    for name, test in suspect.tests.items():
        if test:
            measured |= {f"p_{name}": test.p_value, f"log10_p_{name}": test.log10_p}
    return measured
