"""Picture files are read as people see them, whatever they are; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mwm.data.datasets import Dataset, ImageFolder
from mwm.data.readers import load_dataset

SIDE = 16
NOISE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GREY = NOISE[..., 0]


def folder(root: Path) -> Path:
    """A sound data set of two classes, in which a picture more may be put."""
    for number, place in enumerate(f"{part}/{name}" for part in ("train", "test") for name in ("ant", "bee")):
        (root / place).mkdir(parents=True)
        Image.fromarray(np.roll(NOISE, number)).save(root / place / "a.png")
    return root


def read(root: Path, **changes: Any) -> Dataset:
    return load_dataset(ImageFolder(root=str(root), size=SIDE, **changes))


def refusal(root: Path) -> str:
    """The one line by which a folder is refused."""
    with pytest.raises(ValueError, match="allowed") as caught:
        read(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seen(tmp_path: Path, name: str, image: Image.Image, *, background: str = "white", **how: Any) -> NDArray[np.uint8]:
    """What the network sees of a picture that is saved by this name: h w c."""
    image.save(folder(tmp_path) / "train" / "ant" / name, **how)
    pixels: NDArray[np.uint8] = read(tmp_path, background=background).x_train[1].transpose(1, 2, 0)
    return pixels


def alike(one: NDArray[Any], other: NDArray[Any], bound: int = 1) -> bool:
    return int(np.abs(one.astype(int) - other.astype(int)).max()) <= bound


DEEP: list[tuple[str, Callable[[NDArray[Any]], Any]]] = [
    ("b.png", lambda x: x.astype(np.uint16) * 257),
    ("b.tif", lambda x: x.astype(np.uint16) * 257),
    ("b.tif", lambda x: x.astype(">u2") * 257),
    ("b.pgm", lambda x: x.astype(np.uint16) * 257),
    ("b.jp2", lambda x: x.astype(np.uint16) * 257),
    ("b.tif", lambda x: x.astype(np.int32)),
    ("b.tif", lambda x: x.astype(np.int32) * 257),
    ("b.tif", lambda x: x.astype(np.int32) * ((2**31 - 1) // 255)),
    ("b.tif", lambda x: x.astype(np.float32) / 255),
    ("b.tiff", lambda x: x.astype(np.float32)),
    ("b.tif", lambda x: x.astype(np.float32) * 257),
]


@pytest.mark.parametrize(("name", "deepen"), DEEP, ids=[f"{n}-{name}" for n, (name, _) in enumerate(DEEP)])
def test_more_than_eight_bits_are_scaled(name: str, deepen: Any, tmp_path: Path) -> None:
    values = GREY.copy()
    values[0, 0], values[0, 1] = 0, 255
    pixels = seen(tmp_path, name, Image.fromarray(deepen(values)))
    assert alike(pixels, values[..., None])


def test_one_number_is_white_in_the_whole_data_set(tmp_path: Path) -> None:
    dark = GREY // 4
    Image.fromarray(dark.astype(np.float32)).save(folder(tmp_path) / "test" / "bee" / "dark.tif")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "train" / "ant" / "darker.tif")
    dataset = read(tmp_path)
    assert dataset.findings is not None
    assert dataset.findings.whites == {"F": 255.0}
    assert alike(dataset.x_test[-1], dark)
    assert dataset.x_train[1].max() <= 1, "the same number is the same grey in every picture"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((4, 4), -255, np.float32), "-255 to "),
        (np.full((4, 4), -9, np.int32), "-9 to "),
        (np.full((4, 4), 2.5e8, np.float32), "the value 2.5e+08"),
        (np.full((4, 4), np.nan, np.float32), "finite"),
    ],
)
def test_numbers_that_are_no_brightness_are_refused(values: NDArray[Any], said: str, tmp_path: Path) -> None:
    path = folder(tmp_path) / "train" / "ant" / "odd.tif"
    Image.fromarray(values).save(path)
    assert str(path) in (line := refusal(tmp_path))
    assert said in line


def stencil() -> NDArray[np.uint8]:
    """A black picture whose content stands in its transparency alone."""
    return np.dstack([np.zeros_like(NOISE), GREY])


@pytest.mark.parametrize(("name", "mode"), [("b.png", "RGBA"), ("b.png", "LA"), ("b.webp", "RGBA"), ("b.tif", "RGBA")])
@pytest.mark.parametrize("background", ["white", "black"])
def test_transparency_is_composed(name: str, mode: str, background: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    pixels = seen(tmp_path, name, Image.fromarray(stencil()).convert(mode), background=background, **how)
    assert alike(pixels, (255 - GREY if background == "white" else np.zeros_like(GREY))[..., None])


@pytest.mark.parametrize("kind", ["L", "RGB", "P", "1", "I;16"])
def test_a_transparent_colour_is_composed(kind: str, tmp_path: Path) -> None:
    values = np.where(GREY > 128, 200, 100).astype(np.uint8)
    image = Image.fromarray(values).convert("RGB" if kind == "P" else kind if kind != "I;16" else "L")
    clear: Any = 100
    if kind == "P":
        image = image.quantize(2)
        clear = image.getpixel((int(np.argwhere(values == 100)[0][1]), int(np.argwhere(values == 100)[0][0])))
    elif kind == "1":
        image, clear = Image.fromarray(values > 150), 0
    elif kind == "I;16":
        image, clear = Image.fromarray(values.astype(np.uint16) * 257), 100 * 257
    elif kind == "RGB":
        clear = (100, 100, 100)
    pixels = seen(tmp_path, "b.png", image, transparency=clear)
    assert alike(pixels, np.where(values == 100, 255, 255 if kind == "1" else 200)[..., None], 3)


def test_opaque_pictures_of_eight_bits_are_read_as_ever(tmp_path: Path) -> None:
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8))
    forms = {
        "a": wide,
        "b": wide.convert("L"),
        "c": wide.convert("P"),
        "d": wide.convert("RGBA"),
        "e": wide.convert("1"),
    }
    for name, image in forms.items():
        image.save((tmp_path if name != "a" else folder(tmp_path)) / "train" / "bee" / f"{name}.png")
    (tmp_path / "train" / "bee" / "a.png").unlink()
    wide.save(tmp_path / "train" / "bee" / "a.png")
    dataset = read(tmp_path)
    for image, form in zip(dataset.x_train[1:], forms.values(), strict=True):
        plain = np.asarray(form.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        assert np.array_equal(image.transpose(1, 2, 0), plain)
    assert dataset.findings is not None
    assert dataset.findings.composed == 0


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.webp", "b.tif", "b.avif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_are_upright(name: str, orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((SIDE, SIDE, 3), np.uint8)
    upright[: SIDE // 2, : SIDE // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    lying = Image.fromarray(upright).transpose(turn)
    assert alike(seen(tmp_path, name, lying, exif=exif), upright, 60)
    findings = read(tmp_path).findings
    assert findings is not None
    assert findings.turned == 1


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "b.jpg"), ("CMYK", "b.tif"), ("YCbCr", "b.tif"), ("LAB", "b.tif")])
def test_other_colour_spaces_are_converted(mode: str, name: str, tmp_path: Path) -> None:
    flat = Image.new("RGB", (SIDE, SIDE), (200, 60, 30))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image: Any = ImageCms.profileToProfile(flat, *profiles, outputMode="LAB") if mode == "LAB" else flat.convert(mode)
    assert alike(seen(tmp_path, name, image), np.asarray(flat), 12)


def test_every_ending_that_pillow_opens_is_read_and_the_first_frame_of_several(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE)
    endings = ["gif", "avif", "jp2", "webp", "tif", "BMP", "tga", "ppm", "qoi", "ico", "pcx", "JFIF", "dds"]
    root = folder(tmp_path)
    for ending in endings:
        image.save(root / "train" / "ant" / f"x.{ending}")
    for number, ending in enumerate(moving := ("gif", "png", "tif", "webp")):
        first, other = (Image.new("RGB", (SIDE, SIDE), (grey + number,) * 3) for grey in (200, 90))
        first.save(root / "train" / "bee" / f"moving.{ending}", save_all=True, append_images=[other])
    dataset = read(tmp_path)
    assert np.bincount(dataset.y_train).tolist() == [len(endings) + 1, 5]
    assert dataset.findings is not None
    assert (dataset.findings.frames, dataset.findings.no_pictures) == (4, ())
    first_frames = [int(image.min()) for image in dataset.x_train[dataset.y_train == 1][1:]]
    assert first_frames == pytest.approx([200 + number for number in range(len(moving))], abs=3)


ENDINGS = ["png", "jpg", "gif", "bmp", "tif", "webp", "avif", "jp2", "ppm", "heic", "svg"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_cannot_be_read_is_named_and_counted(ending: str, tmp_path: Path) -> None:
    place, path = folder(tmp_path / "set") / "train" / "bee", tmp_path / f"x.{ending}"
    Image.fromarray(NOISE).save(path, None if ending in ENDINGS[:-2] else "PNG")
    content = path.read_bytes()
    for number, cut in enumerate((content[: len(content) // 2], b"", b"no picture")):
        (place / f"{9 - number}.{ending}").write_bytes(cut)
        line = refusal(tmp_path / "set")
        assert line.startswith(f"{place / f'{9 - number}.{ending}'}: no readable image; allowed: any picture")
        assert f"; {number} more cannot be read" in line or not number


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (folder(tmp_path) / "test" / "ant" / "link.png").symlink_to("nowhere.png")
    assert "link.png: no readable image" in refusal(tmp_path)


def test_a_picture_too_large_to_be_true_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path) / "train" / "bee" / "bomb.png"
    Image.new("1", (20000, 20000)).save(path)
    assert str(path) in (line := refusal(tmp_path))
    assert "exceeds limit" in line
