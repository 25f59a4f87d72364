"""A case of every scheme in the catalogue, which all go through the contract of `test_catalogue`."""

from __future__ import annotations

from mwm.watermarks.schemes import Combined, Confusion, Margin, Scheme, TriggerSet, Unwatermarked

CASES: list[Scheme] = [
    Unwatermarked(),
    TriggerSet(num_queries=10),
    TriggerSet(num_queries=10, queries_per_step="all", weight=0.5, batchnorm="clean"),
    Margin(num_queries=10),
    Margin(num_queries=10, queries_per_step="all", batchnorm="joint"),
    Margin(num_queries=10, queries_per_step=3, batchnorm="frozen", step_size=10 / 255, steps=2, weight=1.0),
    Margin(num_queries=10, mass=0.4, weight=1.0, batchnorm="reference"),
    Confusion(),
    Confusion(mass=0.2, cells_per_class=2),
    Combined(queries=Margin(num_queries=10, batchnorm="joint"), confusion=Confusion(mass=0.2)),
    Combined(queries=TriggerSet(num_queries=10, queries_per_step="all"), confusion=Confusion(cells_per_class=2)),
]
