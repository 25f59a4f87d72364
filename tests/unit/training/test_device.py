"""The memory of a trial: its peak, and what is kept of it between steps and given back between trials."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch

from mwm.attacks import Extraction
from mwm.storage.sealed import seal, unseal
from mwm.storage.store import OUTCOME, Store
from mwm.training import device
from mwm.training.device import MIB, PeakMemory, release
from mwm.trials.outcome import Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial
from tests.helpers.records import CPU, VICTIM, Loaded, done, theft, timeless

ROOT = Path(__file__).parents[3]
LARGE = 96
"""MiB."""

glibc = pytest.mark.skipif(device._glibc() is None, reason="the C library is not glibc: it has no mallopt")
forgetful = pytest.mark.skipif(
    not (device.OWN / "clear_refs").exists(), reason="this system cannot forget the peak of a process"
)


def take(mib: int) -> None:
    """Use so much memory for a moment."""
    torch.ones(mib * MIB // 4).sum().item()


@forgetful
def test_a_peak_rises_with_what_is_taken_and_the_next_trial_begins_anew() -> None:
    first = PeakMemory(CPU)
    before = first.mib()
    take(LARGE)
    assert LARGE * 0.9 < first.mib() - before < LARGE * 1.5
    assert PeakMemory(CPU).mib() < before + LARGE / 2, "the peak of the trial before is still told"


def test_a_peak_is_what_the_process_holds_at_least() -> None:
    held = torch.ones(LARGE * MIB // 4)
    resident = psutil.Process().memory_info().rss / MIB
    assert PeakMemory(CPU).mib() >= resident * 0.95 > held.numel() * 4 / MIB


@pytest.mark.parametrize("status", [None, "Name:\tpython\n"], ids=["no /proc", "a /proc that tells no peak"])
def test_where_no_peak_is_told_that_of_the_whole_life_stands_for_it(
    status: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(LARGE)
    true = PeakMemory(CPU).mib()
    if status is not None:
        for name, text in (("clear_refs", ""), ("status", status)):
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(device, "OWN", tmp_path if status is not None else tmp_path / "none")
    assert PeakMemory(CPU).mib() >= true * 0.95


def test_a_peak_is_no_lower_than_that_of_attempts_before() -> None:
    peak = PeakMemory(CPU)
    now = peak.mib()
    peak.earlier = now + 1000
    assert peak.mib() == now + 1000
    peak.earlier = 1.0
    assert peak.mib() >= now * 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_peak_of_a_gpu_is_what_pytorch_reserved_there() -> None:
    device = torch.device("cuda", 0)
    peak = PeakMemory(device)
    before = peak.mib()
    torch.ones(LARGE * MIB // 4, device=device).sum().item()
    assert peak.mib() - before == pytest.approx(LARGE, abs=4)
    assert torch.cuda.memory_reserved(device) / MIB >= LARGE
    assert PeakMemory(device).mib() < before + LARGE / 2
    assert torch.cuda.memory_reserved(device) / MIB < LARGE


STEPS = """
import resource, sys, threading, psutil, torch
from mwm.training.device import MIB, retain_freed_memory, release
torch.set_num_threads(1)
own, cpu = psutil.Process(), torch.device("cpu")
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): [torch.ones(int(mib * MIB / 4)) for mib in (2, 8, 33, 4, 16, 33, 8, 33, 16)]
def trial():
    if sys.argv[1] == "keep":
        assert retain_freed_memory()
    step()
    before = faults()
    for _ in range(20):
        step()
    told = [faults() - before, own.memory_info().rss / MIB]
    release(cpu)
    print(*told, own.memory_info().rss / MIB)
worker = threading.Thread(target=trial)  # as Ray Tune runs it
worker.start()
worker.join()
"""


def stepped(how: str) -> list[float]:
    """Page faults of 20 steps that take 153 MiB each; MiB resident after them, and after `release`."""
    done = subprocess.run([sys.executable, "-c", STEPS, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


@pytest.mark.slow
@glibc
def test_what_is_freed_is_kept_for_the_next_step_and_given_back_for_the_next_trial() -> None:
    usual, kept = stepped("not"), stepped("keep")
    assert kept[0] < usual[0] / 4, "a step pays for its memory again"
    assert kept[1] > usual[1] + 100, "nothing was kept"
    assert kept[2] < usual[2] + 50, "what was kept is not given back"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not device.retain_freed_memory()
    release(CPU)


def test_every_trial_tells_its_peak(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for trial in (Trial(victim=VICTIM), theft(Extraction())):
        outcome = done(trial, sets, store)
        assert outcome.peak_mib is not None
        assert 50 < outcome.peak_mib < psutil.virtual_memory().total / MIB
        assert store.outcome(outcome.digest) == asdict(outcome)


def test_a_trial_that_goes_on_tells_the_peak_of_all_its_attempts(sets: Loaded, tmp_path: Path) -> None:
    trial, whole = Trial(victim=VICTIM), done(Trial(victim=VICTIM), sets, Store(tmp_path / "whole"))
    for folder, change in (("large", {"peak_mib": 1e6}), ("older", None)):
        store = Store(tmp_path / folder)
        list(islice(run(trial, sets, store, CPU), 1))
        state = store.checkpoint(whole.digest)
        assert state is not None
        assert state.pop("peak_mib") > 50
        store.save_checkpoint(whole.digest, state | (change or {}))
        outcome = done(trial, sets, store)
        assert timeless(outcome) == timeless(whole)
        assert outcome.peak_mib is not None
        assert (outcome.peak_mib == 1e6) == (folder == "large")


def test_a_result_from_before_there_was_a_peak_is_still_one(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    new = done(Trial(victim=VICTIM), sets, store)
    path = store.folder(new.digest) / OUTCOME
    content = unseal(path.read_bytes())
    del content["outcome"]["peak_mib"]
    path.write_bytes(seal({name: content[name] for name in ("outcome", "files", "rows")}))
    (old,) = run(Trial(victim=VICTIM), sets, store, CPU)
    assert isinstance(old, Outcome)
    assert (old.peak_mib, old.seconds, timeless(old)) == (None, new.seconds, timeless(new))
