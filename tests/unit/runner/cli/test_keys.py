"""commit, open and export, as a user asks for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mwm.attacks import BatchNormReestimation
from mwm.config import randomness
from mwm.data.datasets import Dataset
from mwm.storage.store import KEY, QUERIES, WEIGHTS, Store
from mwm.trials.trial import Trial
from mwm.watermarks.key import Key, commitment, load_key
from mwm.watermarks.proof import PROOF, WITHOUT_PROOF
from mwm.watermarks.schemes import Combined
from tests.helpers.asking import Say, heard, one_line
from tests.helpers.keyed import CREATED, archive, drawn, pictures, save, sealed_again
from tests.helpers.launching import ROOT, launched, sweep
from tests.helpers.records import CONTROL, MARGIN, MARKED, VICTIM, Loaded, done, theft
from tests.system.test_s3 import s3, uri
from tests.unit.watermarks.test_key import drop, relabel, repaint, reseed, retell

OPENSSL = shutil.which("openssl")
SECRET = bytes(range(100, 132))


@pytest.fixture
def dataset() -> Dataset:
    return pictures()


def test_a_commitment_is_shown_on_its_own_line(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    key = drawn(dataset, secret=SECRET)
    save(key, tmp_path / "key")
    out = heard(say, "commit", "key")
    described, digits, note = out.splitlines()
    assert note.startswith("note: nothing beside this key says whether its network proves it")
    told = f"key: 12 queries, 5 classes, scheme margin, kept, by its own word, since {CREATED}; its commitment"
    assert described.startswith(told)
    assert digits == commitment(key)
    assert SECRET.hex() not in out


def test_a_key_that_can_be_guessed_is_told(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset), tmp_path / "key")
    out = heard(say, "commit", "key")
    assert commitment(drawn(dataset)) in out.splitlines()
    assert all(word in out for word in ("guesses the seed", "openssl rand -hex 32 > FILE", "secret: FILE"))
    assert randomness.secret_from_seed(0).hex() not in out


def test_a_key_opens_its_own_commitment_only(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    key = drawn(dataset, secret=SECRET)
    save(key, tmp_path / "key")
    digits, other = commitment(key), commitment(drawn(dataset))
    for told in (digits, digits.upper()):
        assert heard(say, "open", "key", "--commitment", told).endswith("; opens the commitment\n")
    status, out, err = say("open", "key", "--commitment", other)
    assert (status, err) == (3, "")
    assert out.endswith(f"; does not open the commitment: its own is {digits}\n")
    for wrong in ("", "abc", digits[:-1], digits + "0", "g" * 64, "commitment"):
        one_line(say("open", "key", "--commitment", wrong), "--commitment: ", "64 hexadecimal digits")
    one_line(say("open", "nowhere", "--commitment", digits), f"nowhere/{KEY}: cannot be read")
    sealed_again(tmp_path / "key", lambda content: content.update(secret="00" * 32))
    one_line(say("open", "key", "--commitment", digits), "key: no sound key: label", "its secret gives")
    one_line(say("commit", "key"), "key: no sound key")


@pytest.mark.parametrize(("change", "status"), [(relabel, 2), (repaint, 3), (reseed, 3), (retell, 3), (drop, 3)])
def test_a_claimant_cannot_open_what_was_published(
    change: Callable[[Key], Key], status: int, say: Say, tmp_path: Path, dataset: Dataset
) -> None:
    save(change(drawn(dataset)), tmp_path / "key")
    assert say("open", "key", "--commitment", commitment(drawn(dataset)))[0] == status


def test_a_key_is_drawn_again_from_its_data(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    key = drawn(dataset, secret=SECRET)
    save(key, tmp_path / "key")
    archive(tmp_path / "own.npz", dataset)
    again = ["open", "key", "--commitment", commitment(key), "--recompute"]
    assert heard(say, *again).endswith("; opens the commitment; all of it comes out of its data again\n")
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    one_line(say(*again), "own.npz: no readable x_train")
    assert say(*again, "--set", "data.path=moved.npz")[0] == 0
    assert say(*again[:3], "0" * 64, *again[4:], "--set", "data.path=moved.npz")[0] == 3
    archive(tmp_path / "other.npz", pictures(seed=1))
    one_line(say(*again, "--set", "data.path=other.npz"), "data: has the digest", dataset.digest)
    one_line(say(*again, "--set", "data.pathh=other.npz"), "data.pathh: unknown key", "'path'")
    one_line(say(*again, "--set", "split.seed=3"), "--set split.seed=3: is not allowed", "data.path=X")
    one_line(say(*again[:4], "--set", "data.path=x"), "--set data.path=x: is of no use without --recompute")
    images = key.queries.images.clone()
    images[0, 0, 0, 0] ^= 1
    save(replace(key, queries=replace(key.queries, images=images)), tmp_path / "key")
    one_line(say(*again, "--set", "data.path=moved.npz"), "the images of the key are not what its secret gives")


def openssl(folder: Path, *words: str) -> str:
    asked = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


AUTHORITY = """
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
certs = tsa.pem
"""


@pytest.mark.skipif(OPENSSL is None, reason="the program openssl is not installed")
def test_a_commitment_can_be_stamped(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset, secret=SECRET), tmp_path / "key")
    out = heard(say, "commit", "key", "--request", "key.tsq")
    digits = commitment(drawn(dataset, secret=SECRET))
    assert "--data-binary @key.tsq" in out
    assert "> key.tsr" in out
    told = openssl(tmp_path, "ts", "-query", "-in", "key.tsq", "-text")
    dump = "".join(re.findall(r"(?m)^ +[0-9a-f]{4} - ([0-9a-f -]{47})", told))
    assert re.sub(r"[ -]", "", dump) == digits
    for line in ("Version: 1", "Hash Algorithm: sha256", "Policy OID: unspecified", "Certificate required: yes"):
        assert line in told
    wanted = openssl(tmp_path, "ts", "-query", "-digest", digits, "-sha256", "-cert", "-no_nonce", "-out", "own.tsq")
    assert (tmp_path / "key.tsq").read_bytes() == (tmp_path / "own.tsq").read_bytes(), wanted


@pytest.mark.skipif(OPENSSL is None, reason="the program openssl is not installed")
def test_a_stamp_holds_for_this_commitment_alone(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    purpose = "extendedKeyUsage=critical,timeStamping"
    new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a clock", "-addext", purpose]
    openssl(tmp_path, *new, "-keyout", "tsa.key", "-out", "tsa.pem")
    (tmp_path / "tsa.cnf").write_text(AUTHORITY)
    save(drawn(dataset, secret=SECRET), tmp_path / "key")
    heard(say, "commit", "key", "--request", "key.tsq")
    openssl(tmp_path, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "key.tsq", "-out", "key.tsr")
    verify = ["ts", "-verify", "-in", "key.tsr", "-CAfile", "tsa.pem"]
    openssl(tmp_path, *verify, "-queryfile", "key.tsq")
    openssl(tmp_path, *verify, "-digest", commitment(drawn(dataset, secret=SECRET)))
    other = ["openssl", *verify, "-digest", commitment(drawn(dataset))]
    assert subprocess.run(other, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_a_request_that_cannot_be_written_is_a_mistake(say: Say, tmp_path: Path, dataset: Dataset) -> None:
    save(drawn(dataset, secret=SECRET), tmp_path / "key")
    one_line(say("commit", "key", "--request", "key"), "--request: key cannot be written (File exists)")
    before = {path: path.read_bytes() for path in (tmp_path / "key").iterdir()}
    one_line(say("commit", "key", "--request", f"key/{KEY}"), f"key/{KEY} cannot be written (File exists); name a new")
    assert {path: path.read_bytes() for path in (tmp_path / "key").iterdir()} == before
    heard(say, "commit", "key", "--request", "new/key.tsq")
    (tmp_path / "new" / "key.tsq").write_bytes(b"another's")
    one_line(say("commit", "key", "--request", "new/key.tsq"), "--request: new/key.tsq cannot be written")
    assert (tmp_path / "new" / "key.tsq").read_bytes() == b"another's"


@pytest.mark.skipif(shutil.which("git") is None, reason="the program git is not installed")
def test_no_key_is_checked_in_or_sent_with_a_job(tmp_path: Path) -> None:
    """By `.gitignore`, which `ray job submit --working-dir` honours, too."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    names = ["owner.secret", "a/owner.secret", "key.tsq", "stamps/key.tsr", f"mykey/{KEY}", f"mykey/{QUERIES}"]
    asked = subprocess.run(
        ["git", "check-ignore", *names, "launch.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert asked.stdout.split() == names


def test_a_key_is_copied_out_of_a_store(say: Say, tmp_path: Path, sets: Loaded) -> None:
    store = Store(tmp_path / "here" / "store")
    victim = done(Trial(victim=MARKED), sets, store)
    stolen = done(theft(BatchNormReestimation(passes=1), MARKED), sets, store).digest
    out = heard(say, "export", victim.digest, "mine/key", "--storage", "here")
    proof = f"its network proves it: log10 p {victim.log10_p:.1f}"
    assert out.startswith("mine/key: 20 queries, 4 classes, scheme trigger_set")
    assert out.endswith(f"; {proof}; keep it secret\n")
    folder = tmp_path / "mine" / "key"
    assert {path.name for path in folder.iterdir()} == {KEY, QUERIES, PROOF}
    assert folder.stat().st_mode & 0o077 == 0
    entry = store.folder(victim.digest)
    assert commitment(load_key(folder)) == commitment(load_key(entry))
    for place in ("mine/key", str(entry)):
        assert f"; {proof}; its commitment" in heard(say, "commit", place)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    one_line(say("export", victim.digest, "mine/key", "--storage", "here"), "FOLDER: mine/key", "File exists")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    one_line(say("export", stolen, "new", "--storage", "here"), f"{stolen} is an attack on {victim.digest}: only")
    one_line(say("export", "0" * 16, "new", "--storage", "here"), "DIGEST: 0000000000000000 is no finished victim")
    for name in ("../../etc", victim.digest[:7], victim.digest.upper()):
        one_line(say("export", name, "new", "--storage", "here"), "DIGEST: ", "16 hexadecimal digits")
    (store.folder(victim.digest) / WEIGHTS).write_bytes(b"")
    one_line(say("export", victim.digest, "new", "--storage", "here"), "is no finished victim of this store")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "store").exists()


def test_both_keys_of_a_network_are_copied_out_of_a_store(say: Say, tmp_path: Path, sets: Loaded) -> None:
    both = replace(VICTIM, scheme=Combined(queries=MARGIN))
    store = Store(tmp_path / "store")
    victim = done(Trial(victim=both), sets, store).digest
    one_line(say("export", victim, "mine"), f"DIGEST: {victim} {WITHOUT_PROOF}", "--force")
    first, second = heard(say, "export", victim[:8], "mine", "--force").splitlines()
    assert first.startswith("mine: 9 queries, 4 classes, scheme margin")
    assert second.startswith("mine/confusion: 21 queries, 4 classes, scheme confusion")
    for name in ("", "confusion"):
        folder = tmp_path / "mine" / name
        assert folder.stat().st_mode & 0o077 == 0
        assert {path.name for path in folder.iterdir() if path.is_file()} == {KEY, QUERIES, PROOF}
        digits = commitment(load_key(store.folder(victim) / name))
        assert heard(say, "commit", f"mine/{name}", "--force").splitlines()[1] == digits
        assert heard(say, "open", f"mine/{name}", "--commitment", digits).endswith("; opens the commitment\n")
        for place in (f"mine/{name}", str(store.folder(victim) / name)):
            one_line(say("commit", place), f"KEY: {place.rstrip('/')} {WITHOUT_PROOF}", "--force")


def test_the_key_of_a_control_is_not_handed_out(say: Say, tmp_path: Path, sets: Loaded, dataset: Dataset) -> None:
    control = done(Trial(victim=CONTROL), sets, Store(tmp_path / "store")).digest
    reason = "is the key of a control: a network of scheme none carries no watermark"
    one_line(say("export", control, "key"), f"DIGEST: {control} {reason}; --force takes it all the same")
    assert not (tmp_path / "key").exists()
    save(replace(drawn(dataset, secret=SECRET), scheme="none"), tmp_path / "kept")
    one_line(say("commit", "kept", "--request", "stamp.tsq"), f"KEY: kept {reason}")
    assert not (tmp_path / "stamp.tsq").exists()
    assert "scheme none" in heard(say, "export", control, "key", "--force")
    one_line(say("commit", "key"), f"KEY: key {reason}")
    assert heard(say, "commit", "key", "--force").splitlines()[1] == commitment(load_key(tmp_path / "key"))


def test_a_key_that_its_network_does_not_prove_is_not_handed_out(say: Say, tmp_path: Path, sets: Loaded) -> None:
    store = Store(tmp_path / "store")
    victim = done(Trial(victim=VICTIM), sets, store)
    assert victim.marked is False
    told = f"{WITHOUT_PROOF}: log10 p is {victim.log10_p:.1f}, and a proof is -3 or less; --force takes it all the same"
    one_line(say("export", victim.digest, "key"), f"DIGEST: {victim.digest} {told}")
    assert not (tmp_path / "key").exists()
    assert "its network does not prove it: log10 p" in heard(say, "export", victim.digest, "key", "--force")
    for place in ("key", str(store.folder(victim.digest))):
        one_line(say("commit", place, "--request", "stamp.tsq"), f"KEY: {place} {told}")
    assert not (tmp_path / "stamp.tsq").exists()
    assert heard(say, "commit", "key", "--force").splitlines()[1] == commitment(load_key(tmp_path / "key"))


@pytest.mark.slow
def test_a_key_is_copied_out_of_an_object_store(say: Say, tmp_path: Path, sets: Loaded) -> None:
    with s3() as (address, _):
        root = uri(address, "mwm")
        here, there = Store(tmp_path / "store"), Store(f"{root.replace('/mwm?', '/mwm/store?')}")
        name = done(Trial(victim=MARKED), sets, here).digest
        assert done(Trial(victim=MARKED), sets, there).digest == name
        heard(say, "export", name, "key", "--storage", root)
        assert commitment(load_key(tmp_path / "key")) == commitment(load_key(here.folder(name)))
        one_line(say("export", "0" * 16, "new", "--storage", root), "is no finished victim")
    one_line(say("export", name, "new", "--storage", root), "--storage: s3://bucket/mwm", "cannot be used")


@pytest.mark.slow
def test_a_secret_stays_in_the_store(tmp_path: Path) -> None:
    secret = SECRET.hex()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "owner.secret").write_text(secret + "\n")

    def hidden(tree: dict[str, object]) -> None:
        tree["victim"] = {**dict(tree["victim"]), "secret": "hidden/owner.secret"}  # type: ignore[call-overload]

    config = sweep(tmp_path, hidden)
    ran = launched(tmp_path, "run", config, "--storage", "kept")
    assert ran.returncode == 0, ran.stderr
    keys = sorted(path.parent for path in tmp_path.glob(f"kept/store/*/*/{KEY}"))
    assert len(keys) == 2
    assert all(load_key(folder).secret == SECRET and not load_key(folder).guessable for folder in keys)
    few, many = sorted((load_key(folder).queries.labels for folder in keys), key=len)
    assert (len(few), len(many)) == (10, 50), "of a watermark; of the control, all that there are"
    assert torch.equal(few, many[:10])
    telling = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and any(word in path.read_bytes().lower() for word in (secret.encode(), SECRET))
    ]
    assert {*telling} == {folder / KEY for folder in keys} | {tmp_path / "hidden" / "owner.secret"}
    assert secret not in (ran.stdout + ran.stderr).lower()
    (tmp_path / "hidden" / "owner.secret").rename(tmp_path / "moved.secret")
    gone = launched(tmp_path, "run", config, "--storage", "kept")
    assert gone.returncode == 2
    assert gone.stderr == "victim.secret: hidden/owner.secret: the secret cannot be read (No such file or directory)\n"
