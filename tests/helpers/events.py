"""Events of a journal, for what follows them."""

from __future__ import annotations

from typing import Any

from mwm.trials.outcome import EpochMetrics, Outcome

EPOCHS = 10


def begin(
    *, victim: int | None = 0, attack: int | None = 0, slots: int = 0, epochs: dict[str, float] | None = None
) -> dict[str, Any]:
    """A driver takes up the sweep."""
    return {"event": "begin", "totals": {"victim": victim, "attack": attack}, "slots": slots, "epochs": epochs or {}}


def start(digest: str, kind: str = "victim", label: str = "") -> dict[str, Any]:
    """A trial begins."""
    return {"event": "start", "digest": digest, "kind": kind, "label": label or digest, "epochs": EPOCHS}


def epochs(
    digest: str, epoch: int, *, query_acc: float = 0.5, val_acc: float = 0.9, seconds: float = 1.0
) -> dict[str, Any]:
    """A trial has done so many epochs."""
    row = EpochMetrics(epoch=epoch, loss=1.0, lr=0.1, val_acc=val_acc, query_acc=query_acc, epoch_seconds=seconds)
    return {"event": "epochs", "digest": digest, "rows": [vars(row)]}


def finish(
    digest: str, kind: str = "victim", *, status: str = "done", label: str = "", cached: bool = False, **outcome: Any
) -> dict[str, Any]:
    """A trial ends."""
    ended: Any = Outcome(status="done", digest=digest, victim_digest=digest, data_digest="d")
    trial: dict[str, Any] = {"victim": {}, "attack": None if kind == "victim" else {}}
    told = vars(ended) | {"status": status} | outcome
    return {"event": "finish", "label": label or digest, "outcome": told, "trial": trial, "cached": cached}


def cached(digest: str, kind: str = "victim", *, status: str = "done", seconds: float | None = None) -> dict[str, Any]:
    """A trial is found finished that stands in the journal."""
    return {"event": "cached", "digest": digest, "kind": kind, "status": status, "seconds": seconds}


def measures(label: str, **metrics: float) -> dict[str, Any]:
    """All attacks on a victim are done."""
    told = {"clean_acc": 0.95, **metrics}
    return {"event": "measures", "digest": label, "label": label, "metrics": told, "tags": {"worst_attack": "hard"}}
