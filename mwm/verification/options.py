"""What is to be decided of suspects, and how they are asked: the options of the command and of the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mwm.stats.binomial import DEFAULT_LEVEL

RANK_SUM, SEQUENTIAL, PERMUTATION = "rank_sum", "sequential", "permutation"
"""The tests of which one decides."""

BATCH_SIZE = 100
"""Images in a request."""

MOST_VIEWS = 100
"""Views of an image at most."""

CELLS_AT_A_TIME = 10
"""Cells asked before the sequential test is looked at again, at most."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of `launch.py verify` and of `mwm.verify`; None leaves a choice open."""

    commitment: str | None = None
    """What was published of the key, 64 hexadecimal digits; it must open it."""
    level: float = DEFAULT_LEVEL
    """Chance at which any independent model among the suspects may be called proven."""
    sequential: bool = False
    """Decide by the sequential test, and stop as soon as it decides."""
    queries: int | None = None
    """Ask only the first so many queries, or cells of several images; without it, all."""
    views: int = 1
    """Show each image in so many views: as it is, and shifted and with noise, as the key's secret says."""
    order_seed: int = 0
    """Seed of the order in which queries are asked."""
    skip_unanswered: bool = False
    """Go on without the images that the suspect refuses for good."""
    trust: bool = False
    """Open what may run code: all but ONNX, endpoints, and weights whose network no function builds."""
    input_range: str = "0,1"
    """Range in which suspects take images: LOW,HIGH, or MEAN/STD, or imagenet, cifar10, cifar100, mnist."""
    layout: str = "nchw"
    """Order of axes and colours in which suspects take images: nchw, nhwc, nchw-bgr or nhwc-bgr."""
    answers: str | None = None
    """Judge suspects as if they answered in these forms: "top_k 3, rounding 2", or labels; without it, as they come."""
    classes: str | None = None
    """Order of a suspect's classes: a comma list, a file, or text, number, from-1; without it the key's."""
    accuracy_bound: float | None = None
    """Share of true classes below which not proven is inconclusive; without it a quarter of chance to 1; 0: none."""
    no_diagnosis: bool = False
    """Ask an inconclusive suspect nothing more to find out how it wants to be asked."""
    batch: int | None = None
    """Images in a request; without it 100."""
    rate: float | None = None
    """Requests in a second at most, repetitions included."""
    timeout: float = 30.0
    """Seconds to wait for an answer; what runs in a process of its own may take ten times as long to open."""
    memory_limit: float | None = None
    """GiB that a suspect which runs in a process of its own may take; without it half of what there is, 8 at most."""
    retries: int = 5
    """Repetitions of a request that failed."""
    protocol: str | None = None
    """Protocol of endpoints: plain, mlflow, instances, kserve, torchserve, list, field:NAME; else by the address."""
    tracking_uri: str | None = None
    """MLflow with the models:/... among the suspects; without it MLFLOW_TRACKING_URI."""
    output: Path | None = None
    """Folder of answers and report, on this machine."""

    def __post_init__(self) -> None:
        positive = "must be above 0"
        for name, value, fine, allowed in (
            ("level", self.level, 0 < self.level < 1, "must lie strictly between 0 and 1"),
            ("accuracy_bound", self.accuracy_bound, 0 <= (self.accuracy_bound or 0) <= 1, "must be 0 to 1"),
            ("order_seed", self.order_seed, self.order_seed >= 0, "must be 0 or more"),
            ("queries", self.queries, self.queries is None or self.queries > 0, positive),
            ("views", self.views, 0 < self.views <= MOST_VIEWS, f"must be 1 to {MOST_VIEWS}"),
            ("batch", self.batch, self.batch is None or self.batch > 0, positive),
            ("rate", self.rate, self.rate is None or self.rate > 0, positive),
            ("timeout", self.timeout, self.timeout > 0, positive),
            ("memory_limit", self.memory_limit, self.memory_limit is None or self.memory_limit > 0, positive),
            ("retries", self.retries, self.retries >= 0, "must be 0 or more"),
        ):
            if not fine:
                raise ValueError(f"{name}: {value:g} is not allowed: {allowed}")

    @property
    def batch_size(self) -> int:
        """Images in a request at most."""
        return self.batch or BATCH_SIZE
