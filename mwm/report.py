"""Results of a sweep as tables and pictures: for a spreadsheet, for a program, and for a person."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor

from mwm.plan import robustness
from mwm.progress import AS_VICTIM, KINDS, STATUSES, heading, naming, plain, share
from mwm.queries import QuerySet
from mwm.spec import digest, encode, flatten
from mwm.store import put
from mwm.trial import Outcome, Trial
from mwm.verdict import interval

SCHEME = ("num_queries", "step_size", "steps", "weight", "queries_per_step", "batchnorm")
MEASURED = (
    "query_acc",
    "query_low",
    "query_high",
    "query_matches",
    "margin_mean",
    "margin_min",
    "agreement",
    "p_value",
    "log10_p",
)
ROBUSTNESS = ("worst_query_acc", "mean_query_acc", "worst_log10_p")
COLUMNS = (
    *("sweep", "kind", "scheme", "model", *SCHEME, "victim_seed"),
    *("attack", "labels", "source", "student", "attack_seed"),
    *("clean_acc", "clean_drop", *MEASURED, *ROBUSTNESS),
    *("oracle_calls", "seconds", "checkpoint", "kept_epoch", "device", "status", "error"),
    *("digest", "victim_digest", "data_digest", "query_digest", "mlflow_run_id", "trial"),
)
"""The columns of results.csv, in order. `query_low` and `query_high`: 95 % interval of the query accuracy (Clopper
and Pearson, 1934), `checkpoint` says which weights of the victim were attacked, `trial` is all of the trial as JSON."""

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p")
PROOF = -3.0
TILE, GAP, LABEL = 96, 8, 26
"""Pixels of the query picture: least width of an image, space around it, height of its label."""

Setting = tuple[tuple[str, Any], ...]
"""The dotted paths and values of a record without its seeds."""
Groups = dict[tuple[Setting, Setting | None], list[dict[str, Any]]]
"""Rows that differ in nothing but seeds, under the settings of the victim and of the attack (None for victims)."""


@dataclass(frozen=True)
class Result:
    """One finished, failed or skipped trial of a sweep; the trial is complete, with student and recipe filled in."""

    trial: Trial
    outcome: Outcome
    run_id: str = ""


def rows(sweep: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row per result under `COLUMNS`: each victim followed by its attacks, attacks without their victim last.

    `clean_drop` is the clean accuracy lost against the same trial without a watermark; None where there is no such
    trial. Fields that a trial does not have are None.
    """
    controls = {
        control_key(result.trial): result.outcome.clean_acc
        for result in reversed(results)
        if result.trial.victim.scheme.kind == "none" and result.outcome.clean_acc is not None
    }
    table = []
    for result, attacks in _ordered(results):
        row = _described(result) | {"sweep": sweep}
        control, clean = controls.get(control_key(result.trial)), result.outcome.clean_acc
        if control is not None and clean is not None:
            row["clean_drop"] = control - clean
        row |= robustness([attack.outcome for attack in attacks])
        table.append({name: row.get(name) for name in COLUMNS})
    return table


def control_key(trial: Trial) -> str:
    """The name that a trial shares with its unmarked control: its content without the scheme."""
    tree = encode(trial)
    del tree["victim"]["scheme"]
    return digest(tree)


def _ordered(results: Sequence[Result]) -> list[tuple[Result, list[Result]]]:
    """Results in the order of `rows`, each with the attacks on it."""
    attacks: dict[str, list[Result]] = {}
    for result in results:
        if result.trial.attack is not None:
            attacks.setdefault(result.outcome.victim_digest, []).append(result)
    ordered: list[tuple[Result, list[Result]]] = []
    for result in results:
        if result.trial.attack is None:
            own = attacks.pop(result.outcome.digest, [])
            ordered += [(result, own), *((attack, []) for attack in own)]
    return ordered + [(orphan, []) for orphans in attacks.values() for orphan in orphans]


def _described(result: Result) -> dict[str, Any]:
    victim, attack = result.trial.victim, result.trial.attack
    row = {name: getattr(victim.scheme, name, None) for name in SCHEME}
    row |= {name: getattr(result.outcome, name, None) for name in COLUMNS if name not in row}
    row |= {"kind": "victim", "scheme": victim.scheme.kind, "model": victim.model.kind, "victim_seed": victim.seed}
    row |= {"checkpoint": victim.recipe.keep, "mlflow_run_id": result.run_id}
    if result.outcome.query_matches is not None:
        row["query_low"], row["query_high"] = interval(result.outcome.query_matches, victim.scheme.num_queries)
    row["trial"] = json.dumps(encode(result.trial), sort_keys=True)
    if attack is not None:
        student = attack.student or victim.model
        row |= {"kind": "attack", "attack": attack.kind, "labels": attack.labels, "source": attack.source.kind}
        row |= {"student": student.kind, "attack_seed": attack.seed}
    return row


def write(folder: Path, sweep: str, results: Sequence[Result], *, seconds: float, complete: bool) -> None:
    """Write results.csv and summary.json into `folder`, each replaced at once; `seconds` is the sweep's duration."""
    text, table = io.StringIO(), rows(sweep, results)
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    put(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter((row["kind"], row["status"]) for row in table)
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in KINDS},
        "table": [_entry(*settings, members) for settings, members in _grouped(results).items()],
    }
    put(folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def _entry(victim: Setting, attack: Setting | None, members: list[dict[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: _moments(_values(members, name)) for name in GROUPED}


def _values(members: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    return [row[name] for row in members if row[name] is not None]


def _moments(values: Sequence[float]) -> dict[str, Any]:
    mean = fmean(values) if values else None
    return {"n": len(values), "mean": mean, "sd": stdev(values) if len(values) > 1 else None}


def _grouped(results: Sequence[Result]) -> Groups:
    trials = [result.trial for result, _ in _ordered(results)]
    # What follows the victim is marked so where that makes fewer attacks: "the student is like the victim" is one.
    ways = [[_attack_setting(trial, following) for trial in trials] for following in (True, False)]
    attacks = min(ways, key=lambda settings: len(set(settings)))
    groups: Groups = {}
    for trial, attack, row in zip(trials, attacks, rows("", results), strict=True):
        groups.setdefault((_setting(encode(trial.victim)), attack), []).append(row)
    return groups


def _attack_setting(trial: Trial, following: bool) -> Setting | None:
    if trial.attack is None:
        return None
    attack, victim = encode(trial.attack), encode(trial.victim)
    if following:
        attack["student"] = _follow(attack["student"], victim["model"])
        attack["recipe"] = _follow(attack["recipe"], victim["recipe"])
    return _setting(attack)


def _follow(tree: Any, leader: Any) -> Any:
    """A tree in which what equals its leader says so; records of a kind follow as a whole or not at all."""
    if not isinstance(tree, Mapping):
        return AS_VICTIM if tree == leader else tree
    if "kind" in tree:
        return {"kind": AS_VICTIM} if tree == leader else tree
    return {name: _follow(value, leader[name]) for name, value in tree.items()}


def _setting(tree: Mapping[str, Any]) -> Setting:
    own = [(path, value) for path, value in flatten(tree).items() if path.rpartition(".")[2] != "seed"]
    return tuple((path, tuple(value) if isinstance(value, list) else value) for path, value in own)


def _varying(settings: Iterable[Setting]) -> list[str]:
    """The paths on which two settings that both have them disagree."""
    seen: dict[str, set[Any]] = {}
    for setting in settings:
        for path, value in setting:
            seen.setdefault(path, set()).add(value)
    return [path for path, values in seen.items() if len(values) > 1]


def table(results: Sequence[Result]) -> Table:
    """What each setting of the victim costs and what of it survives each attack, as mean ± sd over seeds.

    One line per setting; of its fields only those are shown in which the results differ. Student figures are query
    accuracies, bold where every student proves the theft at p <= 0.001.
    """
    groups = _grouped(results)
    victims = list(dict.fromkeys(victim for victim, _ in groups))
    attacks = list(dict.fromkeys(attack for _, attack in groups if attack is not None))
    paths = sorted((path for path in _varying(victims) if path != "scheme.kind"), key=_rank)
    counts = sorted({sum(row["status"] == "done" for row in members) for members in groups.values()} - {0})
    made = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption=_caption(counts), caption_justify="left")
    differing = {*_varying(attacks)} - {"kind"}
    said = [sorted(leaf for leaf in attack if leaf[0] in differing) for attack in attacks]
    names = [naming(dict(attack)["kind"], leaves) for attack, leaves in zip(attacks, said, strict=True)]
    for name in ("scheme", *map(heading, paths), "victim clean", "clean drop", "victim query", *names):
        side: Literal["left", "right"] = "left" if name == "scheme" else "right"
        made.add_column(Text(name.replace(" ", "\n")), justify=side, overflow="fold")
    for victim in victims:
        values = dict(victim)
        shown = [Text(plain(path, values[path]) if path in values else "") for path in paths]
        made.add_row(values["scheme.kind"], *shown, *_figures(victim, attacks, groups))
    return made


def _rank(path: str) -> int:
    """Fields of a scheme come last, in the order of the CSV."""
    room, _, name = path.partition(".")
    return SCHEME.index(name) if room == "scheme" and name in SCHEME else -1


def _figures(victim: Setting, attacks: Sequence[Setting], groups: Groups) -> list[Text]:
    own = groups.get((victim, None), [])
    texts = (_figure(own, "clean_acc", 3) + _ends(own), _figure(own, "clean_drop", 3), _figure(own, "query_acc", 2))
    cells = [Text(text) for text in texts]
    for attack in attacks:
        members = groups.get((victim, attack), [])
        proofs = _values(members, "log10_p")
        style = "bold" if proofs and max(proofs) <= PROOF else ""
        cells.append(Text(_figure(members, "query_acc", 2) + _ends(members), style))
    return cells


def _figure(members: Sequence[Mapping[str, Any]], name: str, digits: int) -> str:
    moments = _moments(_values(members, name))
    # The space in front keeps figures further apart than the fields before them.
    mean = "" if moments["mean"] is None else f" {share(moments['mean'], digits)}"
    return mean if moments["sd"] is None else f"{mean} ± {share(moments['sd'], digits)}"


def _ends(members: Sequence[Mapping[str, Any]]) -> str:
    """What did not end well, on a line of its own so that columns stay narrow; on the first if nothing ended well."""
    counts = Counter(row["status"] for row in members)
    ends = [f"{counts[status]} {status}" for status in STATUSES if status != "done" and counts[status]]
    return ("\n" if counts["done"] else "") + f"({', '.join(ends)})" if ends else ""


def _caption(counts: Sequence[int]) -> str:
    if not counts:
        return "no results yet"
    seeds = f"{counts[0]}-{counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    spread = f"mean ± sd of {seeds} seeds" if counts[-1] > 1 else "1 seed"
    return f"{spread}; attacks: the student's query accuracy, p ≤ .001 for every seed in bold"


def query_picture(queries: QuerySet, perturbed: Tensor, path: Path) -> None:
    """Draw all queries with "true -> assigned" labels into a PNG, and beneath each what the ascent made of it.

    `perturbed`: the images after the ascent (uint8 n c h w), shown if any differs.
    """
    from PIL import Image, ImageDraw

    assert perturbed.shape == queries.images.shape, f"{tuple(perturbed.shape)} for {tuple(queries.images.shape)}"
    moved = bool((queries.images != perturbed).any())
    height, width = queries.images.shape[2:]
    scale = -(-TILE // width)
    across, high = min(len(queries), 10), scale * height
    step = (scale * width + GAP, LABEL + (high + GAP) * (1 + moved))
    sheet = Image.new("RGB", (across * step[0] + GAP, -(-len(queries) // across) * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (truth, assigned) in enumerate(zip(queries.truth.tolist(), queries.labels.tolist(), strict=True)):
        left, top = GAP + i % across * step[0], GAP + i // across * step[1]
        pen.text((left + scale * width / 2, top), f"{truth} -> {assigned}", "black", anchor="ma", font_size=18)
        for down, image in enumerate([queries.images[i], perturbed[i]][: 1 + moved]):
            colour = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
            shown = colour.resize((scale * width, high), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + LABEL + down * (high + GAP)))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    put(path, content.getvalue())
