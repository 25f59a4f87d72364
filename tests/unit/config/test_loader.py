"""YAML: numbers are numbers, words are words, every fault is one line; overrides reach every place."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mwm.config.loader import apply_override, dump_yaml, load_yaml
from mwm.config.loader import parse_yaml as parse_written
from mwm.config.written import Written, plain

SCALARS = [
    ("1e-4", 1e-4),
    ("1E5", 1e5),
    ("-3.5e+2", -350.0),
    ("4/255", 4 / 255),
    ("-1/4", -0.25),
    ("0.5/255", 0.5 / 255),
    (".5", 0.5),
    ("1.", 1.0),
    ("1_000", 1000),
    ("1_000.5", 1000.5),
    ("+7", 7),
    ("010", 10),
    ("true", True),
    ("True", True),
    ("false", False),
    ("null", None),
    ("~", None),
    ("", None),
    *(
        (word, word)
        for word in (
            *("no", "yes", "on", "off", "No", "y", "n", "none", "cnn", "TRUE"),
            *(
                "1.2.3",
                "v1.0",
                "2024-01-31",
                "12:30",
                "0x1f",
                "0o7",
                "1e",
                "e5",
                ".",
                "1/2/3",
                "1/0",
                "1 000",
                ".inf",
                ".nan",
            ),
        )
    ),
    ("'1'", "1"),
    ('"true"', "true"),
]
REFUSED = [
    ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is given twice"),
    ("a: {b: 1, b: 2}", "line 1: the key 'b' is given twice"),
    ("- {1: a, 1: b}", "line 1: the key '1' is given twice"),
    ("a: !!python/object/apply:os.getcwd []", "line 1: tags"),
    ("a: 1\nb: !!timestamp soon", "line 2: tags"),
    ("a: !own x", "line 1: tags"),
    ("a: {b:1}", "line 1: 'b:1' is not allowed: write a space after the colon"),
    ("a: [1", "line 1: "),
    ("a:\n\tb: 1", "line 2: found character '\\t' that cannot start any token; indent with spaces"),
    ("<<: 3", "line 1: expected a mapping or list of mappings for merging, but found scalar"),
    ("a: @b", "line 1: "),
    ("a: *b", "line 1: "),
    ("a: &a [*a]", "line 1: "),
    ("a: 1\n---\nb: 2", "line 2: "),
    ("? [a, b]\n: 1", "line 1: a key must be a single word"),
    ("a: \x00", "character 4: "),
]


def parse_yaml(text: str) -> Any:
    return plain(parse_written(text))


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_scalar_is_what_a_reader_takes_it_for(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [text for text, _ in SCALARS])
def test_what_was_written_is_kept(text: str) -> None:
    found = parse_written(f"a: {text}")["a"]
    assert (repr(found) if isinstance(found, Written) else found) == text.strip("'\"")
    assert pickle.loads(pickle.dumps(found)) == plain(found)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30))
def test_every_number_is_read_back_as_it_was_written(number: float) -> None:
    assert parse_yaml(repr(number)) == number
    assert type(parse_yaml(repr(number))) is type(number)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_fraction_is_one_division(over: int, under: int) -> None:
    assert parse_yaml(f"{over}/{under}") == over / under


WORD = st.text("abcxyz", min_size=1, max_size=4).map(lambda word: f"w{word}")
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_json_is_yaml(tree: Any) -> None:
    assert parse_yaml(json.dumps(tree)) == tree


@example({":0": ""})
@example({"a:b": []})
@given(TREES | st.dictionaries(st.text(), st.sampled_from([text for text, _ in SCALARS]) | st.text()))
@settings(deadline=None)
def test_what_is_written_as_yaml_is_read_back(tree: Any) -> None:
    assert repr(plain(parse_yaml(dump_yaml(tree)))) == repr(tree)


def test_yaml_is_written_as_people_write_it() -> None:
    tree = {"scheme": {"kind": "margin", "step_size": 4 / 255, "seed": 0}, "flip": False, "word": "1/2"}
    assert dump_yaml(tree) == 'scheme: {kind: margin, step_size: 4/255, seed: 0}\nflip: false\nword: "1/2"\n'


@pytest.mark.parametrize(("text", "start"), REFUSED)
def test_a_fault_is_one_line_with_its_place(text: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path}: {start}")
    assert len(str(caught.value).splitlines()) == 1


def test_keys_are_words() -> None:
    assert parse_yaml("{1: a, null: b, true: c, 1/2: d}") == {"1": "a", "null": "b", "true": "c", "1/2": "d"}


def test_an_alias_is_a_copy_and_a_merge_is_overruled() -> None:
    tree = parse_yaml("a: &a {x: 1, y: [1]}\nb: *a\nc: {<<: *a, x: 2}")
    apply_override(tree, "a.y.0=5")
    assert tree == {"a": {"x": 1, "y": [5]}, "b": {"x": 1, "y": [1]}, "c": {"x": 2, "y": [1]}}


CONTENTS = [
    (b"", "must hold keys and values; it holds nothing"),
    (b"# all of it\n", "must hold keys and values; it holds nothing"),
    (b"- 1", "must hold keys and values; it holds a list"),
    (b"word", "must hold keys and values; it holds 'word'"),
    (b"a: 1\r\nb: M\xfcller\r\n", "line 2: byte 0xfc is not UTF-8: save it as UTF-8"),
    ("a: 1".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    ("a: 1".encode("utf-16-be"), "character 1: special characters are not allowed"),
]


@pytest.mark.parametrize(("content", "reason"), CONTENTS)
def test_a_file_must_hold_keys_and_values_in_utf_8(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as caught:
        load_yaml(path)
    assert str(caught.value) == f"{path}: {reason}"


def test_a_byte_order_mark_and_lines_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffa: Müller\r\nb:\r\n  - 1.10\r\n".encode())
    assert load_yaml(path, ["c=日本"]) == {"a": "Müller", "b": [1.1], "c": "日本"}


def test_a_file_must_be_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ValueError, match=f"^{path}: cannot be read"):
            load_yaml(path)


OVERRIDES = [
    ("x=1", {"x": 1}),
    ("x.y.z=1e-3", {"x": {"y": {"z": 1e-3}}}),
    ("x=", {"x": None}),
    ("x=a=b", {"x": "a=b"}),
    ("x=try #2", {"x": "try #2"}),
    ("x='try' #2", {"x": "try"}),
    ("x={grid: [1/4, no]}", {"x": {"grid": [0.25, "no"]}}),
    ("model.width=8", {"model": {"kind": "cnn", "width": 8}}),
    ("empty.key=1", {"empty": {"key": 1}}),
    ("list.1=5", {"list": ["word", 5]}),
    ("list.0.deep=5", {"list": [{"kind": "word", "deep": 5}, {"a": 1}]}),
    ("list.1.a=5", {"list": ["word", {"a": 5}]}),
]


@pytest.mark.parametrize(("item", "change"), OVERRIDES)
def test_an_override_changes_one_place(item: str, change: dict[str, Any], tmp_path: Path) -> None:
    text = "model: cnn\nempty:\nnumber: 3\nlist: [word, {a: 1}]\n"
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert plain(load_yaml(path, [item])) == parse_yaml(text) | change


def test_overrides_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("model: cnn")
    assert load_yaml(path, ["model.width=8", "model.width=9", "model.kind=resnet20"])["model"] == {
        "kind": "resnet20",
        "width": 9,
    }


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("x", "must read dotted.path=value"),
        ("=1", "must read dotted.path=value"),
        ("a..b=1", "must read dotted.path=value"),
        ("number.x=1", "number is 3 and holds no keys"),
        ("list.2=1", "'2' is not allowed; the list has entries 0 to 1, such as list.0"),
        ("list.-1=1", "'-1' is not allowed"),
        ("list.²=1", "'²' is not allowed"),
        ("list.a.b=1", "'a' is not allowed; the list has entries 0 to 1, such as list.0"),
        ("bare.0=1", "'0' is not allowed; the list is empty"),
        ("x=[1", "line 1: "),
    ],
)
def test_a_wrong_override_is_one_line(item: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        apply_override({"number": 3, "list": [1, 2], "bare": []}, item)
    assert str(caught.value).startswith(f"--set {item}: {reason}")
    assert len(str(caught.value).splitlines()) == 1
