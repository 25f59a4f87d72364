"""What runs code of others when it is opened: only for those who say that they trust whoever made it."""

from __future__ import annotations

RUNS_CODE = {
    "export": "torch.export files hold pickles, and a pickle can run any code when it is read",
    "torch": "TorchScript is code, and a pickled network can run any when it is read",
    "script": "TorchScript is code, which runs when the network is asked",
    "mlflow": "a model of MLflow is Python code and pickles, which run when it is loaded",
    "callable": "a module runs its code when it is imported",
    "own": "a function of its maker's builds this network, and a module runs its code when it is imported",
}
"""Why a form is opened only for those who trust its maker."""


def require_trust(place: object, form: str, *, trust: bool) -> None:
    """Refuse what is at a `place`, of a form of `RUNS_CODE`; ValueError, in one line, unless it is trusted."""
    if not trust:
        anyway = "if you trust whoever made it, add --trust, or trust=True in Python"
        raise ValueError(f"{place}: {RUNS_CODE[form]}; {anyway}")
