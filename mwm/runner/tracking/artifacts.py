"""The files of runs: sent to where MLflow keeps them, and never into a folder that it does not see."""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mwm.storage.tracking_uri import artifact_location, is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


NO_PLACE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
"""How a system says that a folder cannot be made."""


class UnsharedFolderError(Exception):
    """Files belong into a folder of another machine."""


class ArtifactSender:
    """Sends the files of an experiment's runs.

    MLflow gives some experiments a folder in place of an address, and its client writes there on whatever machine it
    runs. A server is asked whether it sees the first file that lies in such a folder; of a database the folder must be
    there already, unless it is the one beside it.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: Experiment, *, new: bool) -> None:
        self._client, self._uri = client, uri
        self._folder = _local_folder(experiment.artifact_location)
        self._seen: bool | None = None if self._folder else True
        own = new or experiment.artifact_location == artifact_location(uri, experiment.name)
        if self._folder and not is_server(uri):
            self._seen = own or self._folder.is_dir()

    def send(self, run_id: str, path: Path) -> None:
        """Send a file or a folder. Raises as MLflow does, and UnsharedFolderError."""
        if self._seen:
            self._client.log_artifact(run_id, str(path))
        elif self._seen is None:
            self._try(run_id, path)
        if not self._seen:
            raise UnsharedFolderError(self._refusal())

    def _try(self, run_id: str, path: Path) -> None:
        """Put a file where the server says, and take it away again if the server does not see it."""
        target = _local_folder(self._client.get_run(run_id).info.artifact_uri)
        assert target is not None, "a run lies in the folder of its experiment"
        place = target / path.name
        new = [one for one in (place, *place.parents) if not one.exists()]
        try:
            self._client.log_artifact(run_id, str(path))
            self._seen = path.name in self._listed(run_id)
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            self._seen = False
        finally:
            if not self._seen:
                _remove(new)

    def _listed(self, run_id: str) -> set[str]:
        """The files of a run that the server itself sees."""
        from mlflow.utils import credentials, rest_utils

        request: Any = rest_utils
        endpoint, asked = "/api/2.0/mlflow/artifacts/list", {"run_id": run_id}
        login: Any = credentials.get_default_host_creds
        answer = request.http_request(login(self._uri), endpoint, "GET", params=asked)
        found = request.verify_rest_response(answer, endpoint).json()
        return {file["path"] for file in found.get("files", [])}

    def _refusal(self) -> str:
        if is_server(self._uri):
            how = "let it hand out files itself, as mlflow server does without --no-serve-artifacts"
            return f"{self._folder} is a folder that this machine does not share with the server; {how}"
        how = "make it if it should be"
        return f"{self._folder}, the folder of this experiment's files, is not on this machine; {how}"


def _local_folder(uri: str) -> Path | None:
    """The folder that the address of files means; None if it is none, or one that names another machine."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils import file_utils
    from mlflow.utils import uri as addresses

    known: Any = addresses
    path: Any = file_utils
    try:
        return Path(path.local_file_uri_to_path(uri)).absolute() if known.is_local_uri(uri) else None
    except MlflowException:
        return None


def _remove(new: list[Path]) -> None:
    """Take away what was made: a file or a folder, and those above it, from below, as far as nothing else is there."""
    for path in new:
        with suppress(OSError):
            if path is new[0] and not path.is_dir():
                path.unlink()
            elif path is new[0]:
                shutil.rmtree(path)
            else:
                path.rmdir()
