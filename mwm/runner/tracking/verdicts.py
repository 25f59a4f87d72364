"""Verdicts in MLflow: an experiment of that name, and a run for each suspect."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from mwm.config.spec import digest
from mwm.runner.tracking.client import PERMANENT_ERRORS, MlflowExperiment, to_metrics, tracking_error
from mwm.storage.redaction import failure_reason
from mwm.storage.tracking_uri import VERDICTS, resolve_tracking_uri
from mwm.trials.provenance import provenance
from mwm.verification.report.files import HANDOUT, VERDICT
from mwm.verification.report.page import CHECKSUMS
from mwm.verification.verdict import SuspectResult, Verdict

METRICS = (
    *("p_value", "log10_p", "adjusted_p_value", "p_labels", "log10_p_labels", "p_scores", "log10_p_scores"),
    *("wrong_answers", "right", "mean_rank", "matches", "match_rate", "unanswered", "seconds"),
)
"""The fields of a result that are numbers, and metrics of its run."""


def open_experiment(uri: str | None) -> MlflowExperiment | None:
    """Where the verdict is recorded, if that was asked for; ValueError if it cannot be reached."""
    if not (uri or os.environ.get("MLFLOW_TRACKING_URI")):
        return None
    address = resolve_tracking_uri(uri)
    try:
        return MlflowExperiment(address, VERDICTS)
    except Exception as error:
        raise tracking_error(address, error) from None


def log_verdict(experiment: MlflowExperiment, verdict: Verdict, folder: Path) -> None:
    """Make a run of MLflow for each suspect; the same verdict again makes none. A failure is a warning.

    The answers stay where they are: what a copy answers is mostly the key's labels, and whoever reads a run would know
    them.
    """
    try:
        for suspect in verdict.suspects:
            name = digest(verdict.key, verdict.plan, suspect.to_dict())
            run = next(experiment.runs(f"tags.`mwm.digest` = '{name}'"), None)
            if run is None or run.info.status != "FINISHED":
                run_id = run.info.run_id if run else experiment.create(suspect.name, {"mwm.digest": name})
                _write(experiment, run_id, verdict=verdict, suspect=suspect, folder=folder)
    except Exception as error:
        first = "when that is mended, " if getattr(error, "error_code", "") in PERMANENT_ERRORS else ""
        hint = f"{first}the same command again records the rest"
        print(f"warning: MLflow: {failure_reason(error)}; {hint}", file=sys.stderr)


def _write(
    experiment: MlflowExperiment, run_id: str, *, verdict: Verdict, suspect: SuspectResult, folder: Path
) -> None:
    low, high = suspect.interval
    measured = {name: getattr(suspect, name) for name in METRICS}
    measured |= {"interval_low": low, "interval_high": high}
    measured |= {"cells_asked": suspect.asked, "images_asked": suspect.images}
    for name, test in suspect.tests.items():
        if test:
            measured |= {f"p_{name}": test.p_value, f"log10_p_{name}": test.log10_p}
    tags = {"kind": "verdict", "decision": suspect.decision, "suspect": suspect.name}
    tags |= {"key_commitment": verdict.key.commitment, **provenance()}
    control = verdict.plan.control.name if verdict.plan.control else "none"
    params = asdict(verdict.plan) | {"control": control, "access": suspect.access, "form": suspect.form}
    params |= {"classes": verdict.key.classes, "null": verdict.key.null}
    experiment.log_batch(run_id, points=to_metrics(measured, time.time_ns() // 10**6, 0), params=params, tags=tags)
    for name in (VERDICT, HANDOUT, CHECKSUMS):
        experiment.log_artifact(run_id, folder / name)
    experiment.terminate_run(run_id, "FINISHED")
