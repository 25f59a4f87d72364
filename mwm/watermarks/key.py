"""The key as a folder: the query set, and key.json, which says by what it was made and seals both."""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from mwm.config.randomness import DERIVATION
from mwm.config.spec import Count, Digest, Field, NonEmptyStr, NonNegativeInt, Strict, StrictBool, decode, encode, spec
from mwm.data.datasets import Dataset, DatasetSpec, names_fault
from mwm.data.images import Augmentation
from mwm.data.splits import SplitSizes, split
from mwm.storage.sealed import seal, unseal
from mwm.storage.store import KEY, QUERIES
from mwm.watermarks import queries
from mwm.watermarks.partition import draw_class_cells, leave_out
from mwm.watermarks.queries import Null, QuerySet, draw_cell_labels, draw_queries
from mwm.watermarks.secret import is_guessable, parse_secret


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Key:
    """A query set, the secret that gives it, and the data it was drawn from.

    `guessable` tells that the secret follows from an integer seed, `created` when the key was first kept (ISO 8601,
    UTC; the owner's own word, which nothing backs), `method` the version of the method and `rule` how all is drawn from
    the secret. `data` and `split` are trees. `left_out` are the positions in the query split, in their order, of images
    that are another key's, and so not drawn for this one. `class_names` are those of the data set, if it has any.
    """

    queries: QuerySet
    secret: bytes = field(repr=False)
    classes: int
    scheme: str
    data: dict[str, Any]
    split: dict[str, Any]
    data_digest: str
    guessable: bool
    created: str
    method: int
    rule: str = DERIVATION
    null: Null = "uniform_wrong_labels"
    left_out: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()


@spec
class _KeyFile:
    """What key.json says; `queries` is the SHA-256 of the file of the query set."""

    rule: Literal["mwm-key-1"]
    secret: NonEmptyStr
    guessable: StrictBool
    classes: Annotated[int, Strict(), Field(ge=2, lt=2**31)]
    scheme: Annotated[str, Strict(), Field(pattern=r"^[a-z0-9_]+$")]
    data: DatasetSpec
    split: SplitSizes
    data_digest: Digest
    created: Annotated[str, Strict(), Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    method: Count
    queries: NonEmptyStr
    null: Null = "uniform_wrong_labels"
    left_out: tuple[NonNegativeInt, ...] = ()
    class_names: tuple[NonEmptyStr, ...] = ()

    def __post_init__(self) -> None:
        most = self.split.queries or 0
        if not self.split.is_filled:
            raise ValueError("split is not allowed: must say how many images are set aside for validation and queries")
        if list(self.left_out) != sorted({place for place in self.left_out if place < most}):
            raise ValueError(f"left_out is not allowed: must be numbers below {most}, each once, in their order")
        if fault := names_fault(self.class_names, self.classes):
            raise ValueError(f"class_names is not allowed: {fault}; must be a name for each class, or nothing")


def utc_now() -> str:
    """The time of day as a key's `created`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def to_files(key: Key) -> dict[str, bytes]:
    """A key as the content of its files."""
    tensors = queries.pack(key.queries)
    told = {name: getattr(key, name) for name in _KeyFile.__annotations__ if name not in ("secret", "queries")}
    told |= {"secret": key.secret.hex(), "queries": hashlib.sha256(tensors).hexdigest()}
    usual = {"null": "uniform_wrong_labels", "left_out": (), "class_names": ()}
    for name in [name for name, value in usual.items() if told[name] == value]:
        del told[name]  # what goes without saying: such a file is the one that was always written
    return {KEY: seal(told), QUERIES: tensors}


def load_key(folder: Path | str) -> Key:
    """Read a key back; ValueError, in one line, if anything of it is missing, damaged, or not what its secret gives.

    A secret of one of the first seeds (`is_guessable`) can be guessed, whatever the file says of it; one of a higher
    seed is taken as stated.
    """
    place = Path(folder)
    sheet: _KeyFile = read_sealed(_KeyFile, place / KEY, _read(place / KEY))
    if hashlib.sha256(_read(place / QUERIES)).hexdigest() != sheet.queries:
        raise ValueError(f"{place / QUERIES}: is not the file that {KEY} was written for: one of them was changed")
    asked = queries.load(place / QUERIES)
    try:
        secret = parse_secret(sheet.secret)
    except ValueError as error:
        raise ValueError(f"{place / KEY}: the secret is {error}") from None
    told = {"queries": asked, "secret": secret, "guessable": sheet.guessable or is_guessable(secret)}
    key = Key(**encode(sheet) | told | {"left_out": sheet.left_out, "class_names": sheet.class_names})
    if fault := _defect(key):
        raise ValueError(f"{place}: no sound key: {fault}")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); a key is a folder of {KEY} and {QUERIES}"
        raise ValueError(f"{path}: {reason}") from None


def read_sealed(kind: Any, path: Path, raw: bytes) -> Any:
    """The record of a `kind` in a file that says its own SHA-256; ValueError, in one line, if it is damaged."""
    content = unseal(raw)
    if not content:
        raise ValueError(f"{path}: was damaged or changed: it does not match its own SHA-256")
    try:
        return decode(kind, content)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None


def _defect(key: Key) -> str:
    """In what a key is not what its secret gives, as far as it tells without the data."""
    most, highest = key.split["queries"], int(key.queries.truth.max())
    if len(key.queries) + len(key.left_out) > most or max(key.split.values()) >= 2**63:
        return f"{len(key.queries)} queries cannot come from a split of {key.split}"
    if max(key.method, key.data["pad"]) >= 2**63:
        return f"no method {key.method} with a pad of {key.data['pad']} is known"
    if highest >= key.classes:
        return f"truth holds {highest}; allowed: 0 to {key.classes - 1}"
    if key.null != "uniform_wrong_labels":
        return ""
    expected = draw_cell_labels(key.secret, key.queries, key.classes)
    for place in (expected != key.queries.labels).nonzero().flatten().tolist():
        return f"label {place} is {int(key.queries.labels[place])}; its secret gives {int(expected[place])}"
    return ""


def commitment(key: Key) -> str:
    """The 64 hexadecimal digits to publish before the network is: they tell nothing, and bind the owner to the key.

    They are the SHA-256 of these bytes, one after another: the ASCII of `rule`; the secret (32); as unsigned integers
    (8 each) the method, the number of classes, the split's validation, queries and seed, the data's flip (0 or 1) and
    pad, then n, c, h and w, and the number of letters of the scheme; the split's disjoint share as an IEEE 754 double
    (8); the ASCII of the data digest (16) and of the scheme; the images in the order n c h w (1 a pixel); the n labels
    and the n true labels as unsigned integers (8 each). Where a cell holds several images, the n numbers of their cells
    (8 each); where the labels are not drawn uniformly from the wrong classes, the ASCII of `null`; where images
    are left out for another key, their positions (8 each). Where classes have names, the ASCII of `class_names`, then
    for each class the number of bytes of its name (8) and these bytes, in UTF-8. All numbers are big-endian.

    Not in it: `created`, the owner's own word; `guessable`, which follows from the secret; where the data lie.
    """
    asked, how, shown = key.queries, key.split, (key.data["flip"], key.data["pad"])
    numbers = (key.method, key.classes, how["validation"], how["queries"], how["seed"], *shown, *asked.images.shape)
    content = hashlib.sha256(key.rule.encode() + key.secret)
    content.update(struct.pack(">12Qd", *numbers, len(key.scheme), how["disjoint"]))
    content.update(key.data_digest.encode() + key.scheme.encode())
    for name, values in asked.tensors().items():
        content.update(values.cpu().numpy().astype("u1" if name == "images" else ">u8").tobytes())
    if key.null != "uniform_wrong_labels":
        content.update(key.null.encode())
    content.update(struct.pack(f">{len(key.left_out)}Q", *key.left_out))
    if key.class_names:
        content.update(b"class_names")
        for text in (name.encode() for name in key.class_names):
            content.update(struct.pack(">Q", len(text)) + text)
    return content.hexdigest()


def verify_derivation(key: Key, dataset: Dataset) -> None:
    """Draw a key again from its secret and its data set; ValueError, in one line, if anything comes out differently.

    The pixels must be the same to the bit. Those of an `imagefolder` of JPEG files are what the decoder makes of them:
    with another Pillow or libjpeg than the owner's, such a data set may have another digest, and its keys do not come
    out. Whoever publishes such data does so decoded, as `npz` or PNG.
    """
    if dataset.digest != key.data_digest or dataset.classes != key.classes:
        found = f"{dataset.digest} of {dataset.classes} classes"
        raise ValueError(f"data: has the digest {found}; the key was drawn from {key.data_digest} of {key.classes}")
    if key.class_names and dataset.class_names and key.class_names != dataset.class_names:
        raise ValueError("data: its classes have other names, or another order of them, than those of the key")
    if key.null != "uniform_wrong_labels":
        reason = f"a key of scheme {key.scheme} does not follow from its secret and its data alone"
        raise ValueError(f"{reason}: what was committed to can be checked, but not drawn again")
    source = leave_out(split(dataset, decode(SplitSizes, key.split), "cpu").queries, key.left_out)
    how: Any = {"augmentation": Augmentation(key.data["flip"], key.data["pad"]), "classes": key.classes}
    if key.queries.cells is None:
        again = draw_queries(source, num=len(key.queries), secret=key.secret, **how)
    else:
        again = draw_class_cells(source, secret=key.secret, parts=key.queries.num_cells // key.classes, **how)
    if again.tensors().keys() != key.queries.tensors().keys():
        raise ValueError("the cells of the key are not what its secret gives from the data")
    for name in ("images", "truth", "labels", *again.tensors()):
        if not torch.equal(again.tensors()[name], key.queries.tensors()[name].cpu()):
            raise ValueError(f"the {name} of the key are not what its secret gives from the data")
