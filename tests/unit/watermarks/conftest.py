"""The data from which keys are drawn."""

from __future__ import annotations

import pytest

from mwm.data.datasets import Dataset
from tests.helpers.keyed import pictures


@pytest.fixture
def dataset() -> Dataset:
    return pictures()
