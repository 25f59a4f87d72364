"""deploy/: every file against the schema or the parser of the tool that reads it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from mwm.runner.cli import sweeps
from mwm.runner.cli.app import parse
from tests.helpers.launching import ROOT

DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
FILES = sorted(path for path in DEPLOY.iterdir() if path.suffix != ".password")
CLUSTERS = ["ray-cluster-aws-spot.yaml", "ray-cluster-machines.yaml"]
OTHERS = ["Dockerfile", "job.yaml", "kuberay-rayjob.yaml", "mlflow.compose.yaml", "slurm.sh"]
PINS = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)

# Kubernetes drops a field of KubeRay's that it does not know without a word; these are in its API reference.
JOB_FIELDS = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "clusterSelector",
    "deletionStrategy",
    "entrypoint",
    "entrypointNumCpus",
    "entrypointNumGpus",
    "entrypointResources",
    "jobId",
    "managedBy",
    "metadata",
    "preRunningDeadlineSeconds",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterConfig",
    "submitterPodTemplate",
    "suspend",
    "ttlSecondsAfterFinished",
}
CLUSTER_FIELDS = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "headGroupSpec",
    "headServiceAnnotations",
    "managedBy",
    "rayVersion",
    "suspend",
    "upgradeStrategy",
    "workerGroupSpecs",
}
HEAD_FIELDS = {
    "enableIngress",
    "headService",
    "labels",
    "rayStartParams",
    "resources",
    "serviceType",
    "template",
}
WORKER_FIELDS = {
    "groupName",
    "idleTimeoutSeconds",
    "labels",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "rayStartParams",
    "replicas",
    "resources",
    "scaleStrategy",
    "suspend",
    "template",
}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def spoken(path: Path) -> list[str]:
    """The commands in a file's head comment: the lines that stand three spaces in."""
    head = path.read_text().split("\n\n")[0].replace("\\\n#", "")
    return [line[4:] for line in head.splitlines() if line.startswith("#   ")]


def snippets(path: Path) -> list[str]:
    """Every piece of shell in a file."""
    found = spoken(path)
    if path.name in CLUSTERS:
        found += [text for key, value in read(path.name).items() if key.endswith("_commands") for text in value]
    elif path.name == "kuberay-rayjob.yaml":
        found.append(read(path.name)["spec"]["entrypoint"])
    elif path.name == "mlflow.compose.yaml":
        found.append(read(path.name)["services"]["mlflow"]["command"][2].replace("$$", "$"))
    elif path.name == "slurm.sh":
        found.append(path.read_text())
    return found


def calls(program: str) -> Iterator[tuple[str, list[str]]]:
    """Every call of a program in deploy/: the file's name, and the words up to the shell's next operator."""
    for path in FILES:
        for text in snippets(path):
            without_python = re.sub(r"<< 'END'.*?^END$", "", text, flags=re.DOTALL | re.MULTILINE)
            for line in re.sub(r"\\\n\s*|^\s*#.*", "", without_python, flags=re.MULTILINE).splitlines():
                lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                lexer.commenters = ""
                for operator, group in groupby(lexer, key=lambda word: set(word) <= set(lexer.punctuation_chars)):
                    words = list(group)
                    at = [Path(word).name for word in words]
                    if not operator and program in at:
                        yield path.name, words[at.index(program) + 1 :]


def test_every_file_is_tested() -> None:
    assert [path.name for path in FILES] == sorted([*CLUSTERS, *OTHERS])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shell_can_be_read(path: Path) -> None:
    assert spoken(path), "its head comment says no command"
    for text in snippets(path):
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{text}"
        if text not in spoken(path):
            script = text if text.startswith("#!") else f"#!/bin/bash\n{text}"
            asked = [
                str(BIN / "shellcheck"),
                "--exclude=SC2016",
                "-",
            ]  # `$HOME` is to be written into a .bashrc as it stands
            done = subprocess.run(asked, input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stdout}\n{text}"


def test_every_sweep_that_is_named_can_be_run() -> None:
    asked = [(name, words) for name, words in calls("launch.py") if "$@" not in words]
    submitted = [(name, ["run", *words]) for name, words in calls("slurm.sh")]
    assert {name for name, _ in asked + submitted} == {path.name for path in FILES} - {"Dockerfile"}
    for name, words in asked + submitted:
        command, given = parse(words)
        assert command is sweeps.run
        given.apply_defaults()
        config, storage = given.arguments["config"], given.arguments["storage"]
        assert (ROOT / str(config).removeprefix("/mwm/")).is_file(), f"{name}: {config}"
        assert Path(storage).is_absolute() or name == "mlflow.compose.yaml", f"{name}: {storage}"


def test_slurm_hands_its_words_on() -> None:
    ((_, inner),) = [(name, words) for name, words in calls("launch.py") if "$@" in words]
    ((_, outer),) = calls("slurm.sh")
    at = inner.index("$@")
    _, given = parse([*inner[:at], *outer, *inner[at + 1 :]])
    assert given.arguments["address"] == "$head:$port"
    assert str(given.arguments["config"]) == outer[0]


def test_ray_knows_every_option() -> None:
    from ray.scripts.scripts import cli

    found = list(calls("ray"))
    assert {name for name, _ in found} == {*CLUSTERS, "job.yaml", "slurm.sh"}
    for _, words in found:
        words = [re.sub(r"\$\w+", "1", word) for word in words]  # noqa: PLW2901
        command: Any = cli
        while hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]  # noqa: PLW2901
        command.make_context(command.name, words)  # raises for an option that does not exist


def test_mlflow_knows_every_option() -> None:
    ((_, words),) = calls("mlflow")
    done = subprocess.run([str(BIN / "mlflow"), *words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_takes_the_cluster(name: str) -> None:
    config = read(name)
    validate_config(prepare_config(config))
    for source in config["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).exists(), f"{source} is not in the checkout"
    (head,) = [text for text in config["head_start_ray_commands"] if "--head" in text]
    assert "--dashboard-host=127.0.0.1" in head
    assert any("RAY_AUTH_MODE=token" in text for text in config["setup_commands"])
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])


def test_workers_on_aws_are_spot_and_the_head_is_not() -> None:
    types = read("ray-cluster-aws-spot.yaml")["available_node_types"]
    market = {name: kind["node_config"].get("InstanceMarketOptions") for name, kind in types.items()}
    assert market == {"head": None, "spot": {"MarketType": "spot"}}
    assert 0 < types["spot"]["min_workers"] < types["spot"]["max_workers"]


def test_kuberay_knows_every_field() -> None:
    job = read("kuberay-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert set(job["spec"]) <= JOB_FIELDS
    assert set(cluster) <= CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == PINS["ray[default,tune]"]
    (workers,) = cluster["workerGroupSpecs"]
    assert set(workers) <= WORKER_FIELDS
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    RuntimeEnv(**yaml.safe_load(job["spec"]["runtimeEnvYAML"]))


def test_kubernetes_takes_the_pods() -> None:
    cluster = read("kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mwm"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        spec = group["template"]["spec"]
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_a_job_is_given_time_to_stop() -> None:
    environment = read("job.yaml")["env_vars"]
    RuntimeEnv(env_vars=environment)
    assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) > 60
    assert yaml.safe_load(read("kuberay-rayjob.yaml")["spec"]["runtimeEnvYAML"])["env_vars"] == environment


def test_compose_takes_the_file() -> None:
    asked = [
        str(BIN / "check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        str(DEPLOY / "mlflow.compose.yaml"),
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_listens_here_only() -> None:
    services = read("mlflow.compose.yaml")["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["${MLFLOW_LISTEN:-127.0.0.1}:5000:5000"]
    assert all("healthcheck" in service for service in services.values())


def test_images_have_the_pinned_versions() -> None:
    inline = read("mlflow.compose.yaml")["services"]["mlflow"]["build"]["dockerfile_inline"]
    pins = dict(word.split("==") for word in inline.split() if "==" in word)
    assert pins == {name: PINS[name] for name in ("mlflow", "psycopg2-binary")}
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    bases = [line for line in [*lines, *inline.splitlines()] if line.startswith("FROM")]
    assert bases == ["FROM python:3.11-slim-bookworm"] * 2
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert all((ROOT / source).exists() for source in copied)
    assert {"launch.py", "mwm", "tune_configs", "requirements.txt"} == set(copied)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_written_down(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text), "a password in an address"
    assert not re.search(r"(?i)(password|token|secret|access_key)\w*[ \t]*[:=][ \t]*[\"']?\w{8,}", text)
    kept = subprocess.run(["git", "check-ignore", "deploy/mlflow.password"], cwd=ROOT, capture_output=True, check=False)
    assert kept.returncode == 0, "the password's file could be committed, or sent with a job"
