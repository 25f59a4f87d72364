"""mwm: train margin-watermarked classifiers, attack them, and measure which watermarks survive.

The public names, imported when they are first used: `import mwm` itself needs neither PyTorch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mwm.attacks import AttackSequence, BatchNormReestimation, Distillation, Extraction, FineTuning
    from mwm.attacks.sources import Disjoint, VictimData
    from mwm.data.arrays import Arrays
    from mwm.data.datasets import ArrayData, Cifar10, Cifar100, Digits, ImageFolder, Npz, PythonData, Svhn
    from mwm.data.splits import SplitSizes
    from mwm.models.files import load_model
    from mwm.models.networks import Cnn, Normalization, PythonNetwork, ResNet, ResNet20, Torchvision
    from mwm.runner.execution.driver import SweepRun, run_sweep
    from mwm.runner.reporting.csv_files import read_results
    from mwm.runner.sweeps.sweep import load_sweep
    from mwm.stats.binomial import p_value
    from mwm.stats.power import required_queries
    from mwm.stats.rank_sum import RankSum, rank_labels
    from mwm.training.recipe import Cosine, MultiStep, PaperSchedule, Recipe
    from mwm.trials.api import AttackResult, TrainedVictim, commit_key, export_key, run_attack, train_victim
    from mwm.trials.outcome import EpochMetrics, Outcome
    from mwm.trials.provenance import __version__
    from mwm.trials.trial import Trial, Victim
    from mwm.verification.suspects import open_suspect
    from mwm.verification.verdict import Verdict
    from mwm.verification.verify import verify
    from mwm.watermarks.key import Key, load_key
    from mwm.watermarks.schemes import Combined, Confusion, Margin, TriggerSet, Unwatermarked

_HOMES = {
    "attacks": ("AttackSequence", "BatchNormReestimation", "Distillation", "Extraction", "FineTuning"),
    "attacks.sources": ("Disjoint", "VictimData"),
    "data.arrays": ("Arrays",),
    "data.datasets": ("ArrayData", "Cifar10", "Cifar100", "Digits", "ImageFolder", "Npz", "PythonData", "Svhn"),
    "data.splits": ("SplitSizes",),
    "models.files": ("load_model",),
    "models.networks": ("Cnn", "Normalization", "PythonNetwork", "ResNet", "ResNet20", "Torchvision"),
    "runner.execution.driver": ("SweepRun", "run_sweep"),
    "runner.reporting.csv_files": ("read_results",),
    "runner.sweeps.sweep": ("load_sweep",),
    "stats.binomial": ("p_value",),
    "stats.power": ("required_queries",),
    "stats.rank_sum": ("RankSum", "rank_labels"),
    "training.recipe": ("Cosine", "MultiStep", "PaperSchedule", "Recipe"),
    "trials.api": ("AttackResult", "TrainedVictim", "commit_key", "export_key", "run_attack", "train_victim"),
    "trials.provenance": ("__version__",),
    "trials.outcome": ("EpochMetrics", "Outcome"),
    "trials.trial": ("Trial", "Victim"),
    "verification.suspects": ("open_suspect",),
    "verification.verdict": ("Verdict",),
    "verification.verify": ("verify",),
    "watermarks.key": ("Key", "load_key"),
    "watermarks.schemes": ("Combined", "Confusion", "Margin", "TriggerSet", "Unwatermarked"),
}
"""The module of every public name."""

__all__ = [
    "ArrayData",
    "Arrays",
    "AttackResult",
    "AttackSequence",
    "BatchNormReestimation",
    "Cifar10",
    "Cifar100",
    "Cnn",
    "Combined",
    "Confusion",
    "Cosine",
    "Digits",
    "Disjoint",
    "Distillation",
    "EpochMetrics",
    "Extraction",
    "FineTuning",
    "ImageFolder",
    "Key",
    "Margin",
    "MultiStep",
    "Normalization",
    "Npz",
    "Outcome",
    "PaperSchedule",
    "PythonData",
    "PythonNetwork",
    "RankSum",
    "Recipe",
    "ResNet",
    "ResNet20",
    "SplitSizes",
    "Svhn",
    "SweepRun",
    "Torchvision",
    "TrainedVictim",
    "Trial",
    "TriggerSet",
    "Unwatermarked",
    "Verdict",
    "Victim",
    "VictimData",
    "__version__",
    "commit_key",
    "export_key",
    "load_key",
    "load_model",
    "load_sweep",
    "open_suspect",
    "p_value",
    "rank_labels",
    "read_results",
    "required_queries",
    "run_attack",
    "run_sweep",
    "train_victim",
    "verify",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(f"mwm.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'mwm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
