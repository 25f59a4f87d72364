"""The journal: what was written is read, whatever was cut off; a full disk ends nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.runner.workspace.journal import JOURNAL, Journal, SweepHistory, read_events, read_journal

VICTIM: dict[str, Any] = {"victim": {"seed": 0}, "attack": None}
ATTACK: dict[str, Any] = {"victim": {"seed": 0}, "attack": {"kind": "extraction"}}


def outcome(digest: str, status: str = "done", **more: Any) -> dict[str, Any]:
    return {"status": status, "error": "", "digest": digest, "victim_digest": "v0", **more}


def silent(text: str) -> None:
    pytest.fail(f"the journal warned: {text}")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, silent)
    journal.begin(totals={"victim": 1, "attack": 2})
    journal.start("v0", "victim", "a victim")
    journal.finish(VICTIM, outcome("v0"), "a victim")
    journal.start("a0", "attack", "an attack")
    journal.finish(ATTACK, outcome("a0", "failed", error="why\nnot"), "an attack")
    journal.start("a1", "attack", "another")
    journal.totals(victim=1, attack=1)
    journal.end("KILLED")
    book = read_journal(tmp_path, trials=True)
    assert (book.sessions, book.begin["pid"], book.end["status"]) == (1, os.getpid(), "KILLED")
    assert list(book.trials) == ["v0", "a0", "a1"]
    assert [told.kind for told in book.trials.values()] == ["victim", "attack", "attack"]
    assert book.trials["v0"].trial == VICTIM
    assert book.trials["a0"].outcome == outcome("a0", "failed", error="why\nnot")
    assert book.trials["a1"].outcome is None
    assert book.last == lines(tmp_path)[-1]["at"]
    assert read_journal(tmp_path).trials["v0"].trial is None
    assert book.totals == {"victim": 1, "attack": 1} == book.end["totals"]
    assert {line["event"] for line in lines(tmp_path)} == {"begin", "start", "finish", "totals", "end"}


def test_followers_are_told_what_is_written_at_times_that_grow(tmp_path: Path) -> None:
    told: list[Any] = []
    for _ in range(2):
        journal = Journal(tmp_path, silent, followers=[told.append])
        journal.begin()
        for epoch in range(1, 4):
            journal.epochs("v0", [{"epoch": epoch}])
        journal.epochs("v0", [])
    assert told == lines(tmp_path)
    stamps = [round(1000 * event["at"]) for event in told]
    assert stamps == sorted(set(stamps))
    assert all(event["at"] == round(event["at"], 3) for event in told)


def test_events_are_read_from_a_position_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, silent)
    assert list(read_events(tmp_path)) == []
    journal.begin()
    ((first, place),) = read_events(tmp_path)
    journal.start("v0", "victim", "a victim")
    journal.end("FINISHED")
    data = (tmp_path / JOURNAL).read_bytes()
    later = list(read_events(tmp_path, place))
    assert [first, *(event for event, _ in later)] == lines(tmp_path)
    assert later[-1][1] == len(data)
    assert list(read_events(tmp_path, len(data) + 7)) == []
    (tmp_path / JOURNAL).write_bytes(data[:-1])
    assert list(read_events(tmp_path, place)) == later[:1], "a line that is still being written was read"


def test_what_became_known_is_written_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, silent)
    journal.begin(totals={"victim": 1, "attack": 1})
    for worst in (0.5, 0.5, 0.25):
        journal.measures("v0", {"worst": worst}, {"worst_attack": "hard"}, label="a victim")
        journal.totals(victim=1, attack=round(4 * worst))
    found = [(line["event"], line.get("metrics", line.get("attack"))) for line in lines(tmp_path)]
    assert found[1:] == [
        ("measures", {"worst": 0.5}),
        ("totals", 2),
        ("measures", {"worst": 0.25}),
        ("totals", 1),
    ]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path) == SweepHistory()
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_journal_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(ValueError, match=rf"^{tmp_path / JOURNAL}: cannot be read \(Is a directory\)$"):
        read_journal(tmp_path)


def test_a_new_session_goes_on(tmp_path: Path) -> None:
    first = Journal(tmp_path, silent)
    first.begin()
    first.start("v0", "victim", "a victim", trial=VICTIM)
    first.finish(VICTIM, outcome("v0"), "a victim")
    first.start("a0", "attack", "an attack", trial=ATTACK)
    second = Journal(tmp_path, silent)
    second.begin()
    assert second.holds(outcome("v0"))
    assert not second.holds(outcome("v0", clean_acc=0.5))
    assert [second.is_under_way(name) for name in ("v0", "a0")] == [False, True]
    book = read_journal(tmp_path)
    assert (book.sessions, book.end) == (2, {})
    assert (book.trials["v0"].session, book.trials["a0"].session) == (1, 1)
    second.cached("v0", "victim", "done")
    assert read_journal(tmp_path).trials["v0"].session == 2
    second.finish(VICTIM, outcome("v0", clean_acc=0.5), "a victim")
    second.start("v0", "victim", "a victim")
    assert read_journal(tmp_path).trials["v0"].outcome is None, "a trial that begins again is not finished"
    second.finish(VICTIM, outcome("v0", clean_acc=0.5), "a victim")
    told = read_journal(tmp_path).trials["v0"]
    assert told.outcome is not None
    assert (told.outcome["clean_acc"], told.session) == (0.5, 2)


EVENTS: list[Callable[[Journal, str], None]] = [
    lambda journal, _: journal.begin(totals={"victim": 3, "attack": None}),
    lambda journal, name: journal.start(name, "victim", f"the {name} ü"),
    lambda journal, name: journal.finish(VICTIM, outcome(name), f"the {name}"),
    lambda journal, name: journal.finish(VICTIM, outcome(name, "failed"), f"the {name}"),
    lambda journal, _: journal.end("FINISHED"),
]


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(["v0", "v1", "v2"])), min_size=1, max_size=12),
    cut=st.floats(0, 1),
)
def test_a_cut_journal_tells_its_whole_lines_and_is_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, events: list[Any], cut: float
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal, path = Journal(folder, silent), folder / JOURNAL
    for event, name in events:
        event(journal, name)
    data = path.read_bytes()
    kept = data[: round(cut * len(data))]
    whole = kept[: kept.rindex(b"\n") + 1] if b"\n" in kept else b""
    path.write_bytes(whole)
    expected = read_journal(folder)
    path.write_bytes(kept)
    if kept[len(whole) :] + b"\n" in data:  # the cut took nothing but the line's end
        path.write_bytes(kept + b"\n")
        expected = read_journal(folder)
        path.write_bytes(kept)
    assert read_journal(folder) == expected
    Journal(folder, silent).start("v9", "victim", "the next")
    after = read_journal(folder)
    assert after.trials.pop("v9").label == "the next"
    assert after.trials == expected.trials


def test_lines_of_other_makes_are_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, silent)
    journal.begin()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'\x00\x00\n[1]\n{"event": "start"}\n{"at": 1, "event": "start"}\n{"at": 2, "event": "later"}\n')
    journal.start("v0", "victim", "a victim")
    assert list(read_journal(tmp_path).trials) == ["v0"]


def test_a_full_disk_is_told_once_and_nothing_is_lost(tmp_path: Path) -> None:
    told: list[str] = []
    journal, path = Journal(tmp_path, told.append), tmp_path / JOURNAL
    journal.begin()
    path.rename(tmp_path / "kept")
    path.symlink_to("/dev/full")
    journal.start("v0", "victim", "a victim")
    journal.finish(VICTIM, outcome("v0"), "a victim")
    path.unlink()
    (tmp_path / "kept").rename(path)
    journal.end("FINISHED")
    assert [line["event"] for line in map(json.loads, filter(None, path.read_text().splitlines()))] == [
        "begin",
        "start",
        "finish",
        "end",
    ]
    assert len(told) == 1
    assert told[0].startswith(f"warning: {path}: No space left on device")


LIMITED = """
import resource, signal, sys
from pathlib import Path
from mwm.runner.workspace.journal import Journal, read_journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, told = Path(sys.argv[1]), []
journal = Journal(folder, told.append)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for number in range(40):
    limit = int(sys.argv[2]) if number < 20 else hard
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    journal.start(f"v{number}", "victim", "a victim")
assert len(told) == 1, told
assert list(read_journal(folder).trials) == [f"v{number}" for number in range(40)], list(read_journal(folder).trials)
"""


@pytest.mark.parametrize("limit", [0, 500, 507])
def test_a_line_that_was_cut_off_is_written_again(limit: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4])
    assert done.returncode == 0, done.stderr


WRITER = """
import sys
from pathlib import Path
from mwm.runner.workspace.journal import Journal
journal = Journal(Path(sys.argv[1]), print)
journal.begin()
number = 0
while True:
    journal.start(f"v{number}", "victim", "x" * 3000)
    number += 1
    print(number, flush=True)
"""


def test_what_a_killed_driver_wrote_is_there(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert process.stdout is not None
    for _ in range(30):
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said = max([said, *map(int, process.stdout.read().splitlines()[:-1])])
    process.wait()
    process.stdout.close()
    assert list(read_journal(tmp_path).trials)[:said] == [f"v{number}" for number in range(said)]
    Journal(tmp_path, silent).begin()
    assert read_journal(tmp_path).sessions == 2
