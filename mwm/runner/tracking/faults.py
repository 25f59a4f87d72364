"""What MLflow refuses, and how that is told: in one line that helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mwm.storage.redaction import failure_reason, redact

PERMANENT_ERRORS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST")
"""Codes of failures that no repetition mends."""

LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
LOGIN_CODES = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
"""What a server wants to be told that asks who is there, and how it says so."""


def error_code(error: Exception) -> str:
    """How MLflow calls a failure; empty for one that is not MLflow's."""
    return str(getattr(error, "error_code", ""))


def reason(error: Exception) -> str:
    """Why MLflow failed, in one line; of a server that asks who is there also how to tell it."""
    hint = f"; {LOGIN}" if error_code(error) in LOGIN_CODES else ""
    return failure_reason(error) + hint


def tracking_error(uri: str, error: Exception) -> ValueError:
    """What to raise when a store fails at the start."""
    refused = isinstance(error, ValueError) or error_code(error) in (*PERMANENT_ERRORS, *LOGIN_CODES)
    what = "cannot be used" if refused else "cannot be reached"
    return ValueError(f"--tracking-uri: {redact(uri)} {what} ({reason(error)})")


def told_missing(missing: Mapping[str, int]) -> str:
    """How many writes of each kind did not arrive, as in `3 of files, 2 of tags`."""
    return ", ".join(f"{count} of {kind or 'another kind'}" for kind, count in sorted(missing.items()))


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise ValueError, in one line, for the name of a tag that MLflow refuses."""
    from mlflow.utils import validation

    rules: Any = validation
    for name in tags:
        wrong = ""
        if not rules.validate_param_and_metric_name(name):
            wrong = rules.bad_character_message()
        elif rules.path_not_unique(name):
            wrong = "Names may not be paths that lead elsewhere"
        elif len(name) > validation.MAX_ENTITY_KEY_LENGTH:
            wrong = f"Names may have {validation.MAX_ENTITY_KEY_LENGTH} characters at most"
        if wrong:
            raise ValueError(f"tags: {name!r} is not allowed (--tag, tags): {wrong.rstrip('.')}")
