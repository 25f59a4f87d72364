"""What can be known of a Ray cluster before it is joined or started: Ray itself tries for minutes, and says little."""

from __future__ import annotations

import json
import os
import platform
import socket
from typing import Any
from urllib.parse import urlsplit

from mwm.storage.redaction import redact

CONNECT_TIMEOUT_S = 5.0
"""How long a named cluster may take to answer."""

SESSION = "/ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""The longest path that Ray makes of a socket in its temporary folder."""

SOCKET_PATH = 107
"""Bytes of the path of a socket, at most."""

ASKED = "give HOST:PORT as `ray start --head` shows it, usually HOST:6379"


def cluster_address(address: str | None) -> str | None:
    """The cluster that is named by --address, or else by RAY_ADDRESS; None for one on this machine for the time being.

    Raises ValueError for a name that is not HOST:PORT, or `auto`: a cluster that runs on this machine.
    """
    given = address or os.environ.get("RAY_ADDRESS") or "local"
    scheme, split, _ = given.rpartition("://")
    what = {"ray": "Ray Client, by which no sweep runs", "http": "the dashboard of Ray, to which `ray job` submits"}
    if split:
        reason = f"that is {what[scheme.rstrip('s')]}; " if scheme.rstrip("s") in what else ""
        raise ValueError(f"{_named(address)}: {redact(given)} is not allowed: {reason}{ASKED}")
    if given not in ("local", "auto"):
        try:
            parts = urlsplit(f"//{given}")
            complete = parts.hostname and parts.port and given == parts.netloc
        except ValueError:
            complete = False
        if not complete:
            raise ValueError(f"{_named(address)}: {redact(given)} is not allowed: {ASKED}")
    return None if given == "local" else given


def require_cluster(address: str, named: str | None) -> None:
    """Refuse an address at which no Ray of this version answers; `named` is what --address said, or None."""
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        found = canonicalize_bootstrap_address("auto")
        if found is None:
            raise ValueError(f"{_named(named)}: auto is not allowed: no Ray runs on this machine; {ASKED}")
        address = found
    where = urlsplit(f"//{address}")
    assert where.hostname is not None, "an address was checked before"
    try:
        socket.create_connection((where.hostname, where.port or 0), CONNECT_TIMEOUT_S).close()
        reason = _refusal(address)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ValueError(f"{_named(named)}: {address} cannot be joined: {reason}")


def _named(address: str | None) -> str:
    return "--address" if address else "RAY_ADDRESS"


def _refusal(address: str) -> str:
    """Why the head of a cluster, if it is one, is not to be joined; empty if nothing speaks against it."""
    import grpc
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    messages: Any = gcs_service_pb2
    asked = messages.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster")
    try:
        channel: Any = init_grpc_channel(address, [("grpc.enable_http_proxy", 0)])
        with channel:
            head: Any = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)  # type: ignore[no-untyped-call]
            told = head.InternalKVGet(asked, timeout=CONNECT_TIMEOUT_S).value
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token"
        return f"no head of a Ray cluster answers there; {ASKED}"
    except (RuntimeError, ray.exceptions.RayError) as error:  # a token is asked for by RAY_AUTH_MODE, and is not there
        return " ".join(str(error).split())
    there = json.loads(told) if told else {}
    versions = [there.get("ray_version", ray.__version__), there.get("python_version", platform.python_version())]
    here = [ray.__version__, platform.python_version()]
    if versions != here:
        said = "Ray {} and Python {}".format
        return f"it runs {said(*versions)}, and this command {said(*here)}: both must be the same"
    return ""


def require_short_paths() -> None:
    """Refuse a temporary folder in which Ray's sockets would have longer paths than the system allows."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "RAY_TMPDIR")
    folder, most = os.environ.get(name, "/tmp"), SOCKET_PATH - len(SESSION)
    if (length := len(os.fsencode(folder))) > most:
        reason = f"{length} bytes are too long for the paths of Ray's sockets: at most {most}"
        raise ValueError(f"{name}: {folder} is not allowed: {reason}; set RAY_TMPDIR to a shorter folder, such as /tmp")
