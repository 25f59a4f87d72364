"""room.Data sets: every format is read as it is written, every fault is one line, roles never share an image."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets as public

from mwm.config.spec import decode, encode
from mwm.data import datasets, images, readers
from mwm.data.datasets import Cifar10, Cifar100, Digits, ImageFolder, Npz, Svhn
from mwm.data.readers import load_dataset
from mwm.data.splits import SplitSizes, split

SHARED = Path(__file__).parents[4] / "shared" / "data" / "cifar10-10k.npz"
NOWHERE = "http://127.0.0.1:9/nothing-listens-here"


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fault(data: datasets.DatasetSpec) -> str:
    """The one line with which a data set is refused."""
    with pytest.raises(ValueError, match=r"allowed|without network") as caught:
        load_dataset(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_records_decode_and_digits_are_never_mirrored() -> None:
    assert decode(datasets.DatasetSpec, "digits") == Digits()
    for record in (Digits(), Svhn(root="here"), Npz(path="a.npz", pad=0), ImageFolder(root="pictures", size=64)):
        assert decode(datasets.DatasetSpec, encode(record)) == record
        assert next(iter(encode(record))) == "kind"
    recipes = [(data.flip, data.pad) for data in (Digits(), Svhn(), Cifar10(), Cifar100())]
    assert recipes == [(False, 1), (False, 4), (True, 4), (True, 4)]


def test_digits_are_the_bundled_ones_each_once() -> None:
    digits = load_dataset(Digits())
    assert digits.shape == (1, 8, 8)
    assert (len(digits.y_train), len(digits.y_test), digits.classes) == (1437, 360, 10)
    images = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 64)
    labels = np.concatenate([digits.y_train, digits.y_test])
    grey, truth = load_digits(return_X_y=True)
    theirs = zip(np.floor(grey * 255 / 16 + 0.5).astype(np.uint8), truth, strict=True)
    ours = zip(images, labels, strict=True)
    assert Counter((x.tobytes(), y) for x, y in ours) == Counter((x.tobytes(), y) for x, y in theirs)
    assert np.bincount(digits.y_test).min() >= 20, "a class is nearly absent from the test images"
    assert digits.digest == load_dataset(Digits(flip=True)).digest == "ca347b6afe1c1f2d"


def write_cifar(root: Path, source: Any, label_key: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """CIFAR's own archive with 12 images a batch; its checksums replace those of the published files."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    content, sums = {}, {}
    for seed, (name, _) in enumerate(source.train_list + source.test_list):
        labels = [(seed + row) % 10 for row in range(12)]
        content[name] = (pixels(12, 3, 32, 32, seed=seed), labels)
        batch = {"data": content[name][0].reshape(12, 3072), label_key: labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        sums[name] = md5(folder / name)
    meta = folder / source.meta["filename"]
    meta.write_bytes(pickle.dumps({source.meta["key"]: [f"thing {c}" for c in range(10)]}, protocol=2))
    with tarfile.open(root / source.filename, "w:gz") as archive:
        archive.add(folder, source.base_folder)
    for part in ("train_list", "test_list"):
        patch.setattr(source, part, [[name, sums[name]] for name, _ in getattr(source, part)])
    patch.setattr(source, "meta", source.meta | {"md5": md5(meta)})
    patch.setattr(source, "tgz_md5", md5(root / source.filename))
    patch.setattr(source, "url", NOWHERE)
    return content


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
def test_cifar_is_read_from_its_own_archive(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = kind(root=str(tmp_path))
    source = getattr(public, data.kind.upper())
    content = write_cifar(tmp_path, source, "labels" if kind is Cifar10 else "fine_labels", monkeypatch)
    folder = tmp_path / source.base_folder
    read = load_dataset(data)
    for part, listing in (("train", source.train_list), ("test", source.test_list)):
        expected = [content[name] for name, _ in listing]
        assert np.array_equal(getattr(read, f"x_{part}"), np.concatenate([x for x, _ in expected]))
        assert getattr(read, f"y_{part}").tolist() == [label for _, labels in expected for label in labels]
    archive = tmp_path / source.filename
    packed = archive.read_bytes()
    archive.unlink()
    assert readers.download_note(data) is None, "the unpacked files are enough"
    (folder / source.test_list[0][0]).write_bytes(b"damaged")
    assert str(tmp_path) in str(readers.download_note(data))
    message = fault(data)
    assert all(word in message for word in (data.kind, str(tmp_path), source.filename)), message
    archive.write_bytes(packed)
    assert readers.download_note(data) is None, "the archive is enough"
    assert load_dataset(data).digest == read.digest


def test_svhn_is_read_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, listing = pixels(20, 32, 32, 3), np.arange(20) % 10, {}
    for part, rows in (("train", slice(12)), ("test", slice(12, 20))):
        path, named = tmp_path / f"{part}_32x32.mat", np.where(labels == 0, 10, labels)[rows, None].astype(np.uint8)
        scipy.io.savemat(path, {"X": images[rows].transpose(1, 2, 3, 0), "y": named})
        listing[part] = [NOWHERE, path.name, md5(path)]
    monkeypatch.setattr(public.SVHN, "split_list", listing)
    data = Svhn(root=str(tmp_path))
    assert readers.download_note(data) is None
    read = load_dataset(data)
    assert np.array_equal(np.concatenate([read.x_train, read.x_test]), images.transpose(0, 3, 1, 2))
    assert [*read.y_train, *read.y_test] == labels.tolist(), "the digit 0 is the class 0"
    (tmp_path / "test_32x32.mat").unlink()
    assert str(tmp_path) in str(readers.download_note(data))
    assert "test_32x32.mat" in fault(data)


def archive(path: Path, **changes: Any) -> Npz:
    """A sound archive of ten training and four test images, with some arrays exchanged (None: left out)."""
    arrays: dict[str, Any] = {"x_train": pixels(10, 5, 4, 3), "y_train": np.arange(10) % 3}
    arrays |= {"x_test": pixels(4, 5, 4, 3, seed=1), "y_test": np.arange(4) % 3} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return Npz(path=str(path))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64, np.uint64, ">i4"])
def test_npz_is_read_as_channels_first(kind: Any, tmp_path: Path) -> None:
    read = load_dataset(archive(tmp_path / "a.npz", y_train=(np.arange(10) % 3).astype(kind)))
    assert (read.shape, read.classes) == ((3, 5, 4), 3)
    assert np.array_equal(read.x_train, pixels(10, 5, 4, 3).transpose(0, 3, 1, 2))
    assert read.x_train.flags.c_contiguous
    assert [array.dtype.name for array in (read.x_train, read.y_train, read.y_test)] == ["uint8", "int64", "int64"]
    assert read.y_train.tolist() == [0, 1, 2] * 3 + [0]
    assert readers.download_note(Npz(path=str(tmp_path / "a.npz"))) is None


FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"x_test": None}, ["x_test"]),
    ({"x_train": pixels(10, 5, 4, 3) / np.float32(255)}, ["x_train", "float32", "uint8"]),
    ({"x_train": pixels(10, 5, 4)}, ["x_train", "(10, 5, 4)", "channels"]),
    ({"x_train": pixels(10, 3, 5, 4)}, ["x_train", "(10, 3, 5, 4)", "1 or 3 channels"]),
    ({"x_train": np.uint8(3)}, ["x_train", "()"]),
    ({"x_train": pixels(0, 5, 4, 3), "y_train": np.arange(0)}, ["x_train", "(0, 5, 4, 3)", "not empty"]),
    ({"x_test": pixels(0, 5, 4, 3), "y_test": np.arange(0)}, ["x_test", "(0, 5, 4, 3)", "not empty"]),
    ({"x_test": pixels(4, 5, 5, 3)}, ["x_test", "(3, 5, 5)", "(3, 5, 4)"]),
    ({"x_test": pixels(4, 5, 4, 1)}, ["x_test", "(1, 5, 4)", "(3, 5, 4)"]),
    ({"y_train": np.arange(9)}, ["y_train", "(9,)", "(10,)"]),
    ({"y_test": np.zeros((4, 1), int)}, ["y_test", "(4, 1)", "(4,)"]),
    ({"y_train": np.arange(10.0)}, ["y_train", "float64", "integers"]),
    ({"y_train": np.arange(10) % 2 == 0}, ["y_train", "bool", "integers"]),
    ({"y_train": np.array([object()] * 10)}, ["y_train", "allow_pickle"]),
    ({"y_train": np.arange(10) - 1}, ["y_train", "-1"]),
    ({"y_test": np.array([0, -7, 0, 0])}, ["y_test", "-7"]),
    ({"y_test": np.array([0, 1, 2, 3])}, ["y_test", "3", "0 to 2"]),
    ({"y_train": np.array([0] * 9 + [2**63], np.uint64)}, ["y_train", str(2**63)]),
    ({"y_train": np.full(10, 2)}, ["y_train", "1 of classes 0 to 2", "2 or more"]),
]


@pytest.mark.parametrize(("changes", "words"), FAULTS)
def test_npz_faults_name_the_file_the_array_and_what_is_allowed(
    changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    message = fault(archive(tmp_path / "wrong.npz", **changes))
    assert all(word in message for word in ["wrong.npz", "allowed", *words]), message


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    assert "wrong.npz" in fault(Npz(path=str(path)))
    assert str(tmp_path) in fault(Npz(path=str(tmp_path)))
    sound = Path(archive(tmp_path / "sound.npz").path).read_bytes()
    middle = len(sound) // 3
    flipped = sound[:middle] + bytes(byte ^ 255 for byte in sound[middle : middle + 9]) + sound[middle + 9 :]
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    for content in (b"", b"x: 1\n", sound[:middle], flipped, pickle.dumps({"x_train": 1}), single.read_bytes()):
        path.write_bytes(content)
        assert "wrong.npz" in fault(Npz(path=str(path)))


def test_digest_changes_with_a_pixel_a_label_and_a_shape(tmp_path: Path) -> None:
    images, labels = pixels(10, 5, 4, 3), np.arange(10) % 3
    other, relabelled = images.copy(), labels.copy()
    other[3, 2, 1, 0] ^= 1
    relabelled[3] = 1
    changes: list[dict[str, Any]] = [{}, {"x_train": other}, {"y_train": relabelled}]
    digests = [load_dataset(archive(tmp_path / "a.npz", **change)).digest for change in changes]
    assert len({*digests}) == 3
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    assert digests[0] == load_dataset(archive(tmp_path / "elsewhere.npz")).digest
    assert datasets.array_digest(np.zeros((2, 3))) != datasets.array_digest(np.zeros((3, 2)))
    assert datasets.array_digest(np.zeros(2, np.int32)) != datasets.array_digest(np.zeros(1, np.int64))


def write_pictures(root: Path, part: str, names: list[str]) -> None:
    for c, name in enumerate(names):
        folder = root / part / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((16, 16, 3), 40 * c + 10, np.uint8)).save(folder / "a.png")
        Image.fromarray(np.full((9, 20), 40 * c + 20, np.uint8)).save(folder / "b.png")


def test_image_folder_is_resized_and_coloured(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path, part, ["ant", "bee"])
    colours = pixels(8, 8, 3)
    Image.fromarray(colours).save(tmp_path / "train" / "bee" / "c.png")
    read = load_dataset(ImageFolder(root=str(tmp_path), size=8))
    assert (read.shape, read.classes) == ((3, 8, 8), 2)
    assert read.y_train.tolist() == [0, 0, 1, 1, 1]
    assert read.y_test.tolist() == [0, 0, 1, 1]
    assert [int(x.min()) for x in read.x_test] == [int(x.max()) for x in read.x_test] == [10, 20, 50, 60]
    assert np.array_equal(read.x_train[4], colours.transpose(2, 0, 1))


def test_image_folder_faults_name_the_folder_or_the_file(tmp_path: Path) -> None:
    data = ImageFolder(root=str(tmp_path))
    assert "train/CLASS" in fault(data)
    write_pictures(tmp_path, "train", ["ant", "bee"])
    assert "test/CLASS" in fault(data)
    write_pictures(tmp_path, "test", ["ant", "bee", "cat"])
    message = fault(data)
    assert "cat" in message
    assert "ant" not in message
    write_pictures(tmp_path, "train", ["cat"])
    broken = tmp_path / "test" / "cat" / "b.png"
    for content in (b"no picture", broken.read_bytes()[:45]):
        broken.write_bytes(content)
        assert str(broken) in fault(data)


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED.name} is not beside this repository")
def test_a_real_archive_loads() -> None:
    read = load_dataset(Npz(path=str(SHARED)))
    assert (read.shape, read.classes, len(read.y_train), len(read.y_test)) == ((3, 32, 32), 10, 10_000, 2_000)
    views = split(read, SplitSizes(), "cpu")
    assert (len(views.owner), len(views.validation), len(views.queries), len(views.disjoint)) == (9_000, 500, 500, 0)
    assert 0.3 < float(images.to_float(views.owner.images).mean()) < 0.6
