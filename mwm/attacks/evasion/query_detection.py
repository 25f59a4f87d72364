"""Query detection: images that look like nobody's usual ones are not answered by the network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch

from mwm.attacks.access import TargetFacts, WhiteBoxAccess
from mwm.attacks.base import image_count
from mwm.attacks.evasion.deploying import EvasionAttack
from mwm.config.randomness import make_generator
from mwm.config.spec import Count, Field, Shown, Strict, spec
from mwm.data.host import Images, in_batches, select
from mwm.data.images import to_float
from mwm.models.deployed import Deployed, Deployment
from mwm.models.detection import Detection, Seen
from mwm.training.evaluation import eval_batch_size, eval_mode, first_choices, predict_logits


@spec
class QueryDetection(EvasionAttack):
    """Turn away images that lie far from the attacker's own: a key may look like nothing that honest users ask.

    By `knn` an image is as far as the k-th of its `neighbors` among reference images, in `features` of the last layer
    (Sun et al., 2022: k 50 for CIFAR-10) or in `pixels`. By `energy` it is as far as -logsumexp of its logits (Liu et
    al., 2020). The threshold turns away a share `false_rejects` of held-out own images; both papers take .05. What is
    turned away is refused, with equal scores for all classes, or relabelled by its neighbours among the references.

    Half of the attacker's images, at random and `references` at most, are references where any are needed; all others
    set the threshold. Their labels are those that the network gives them.
    """

    strength: ClassVar[str] = "false_rejects"
    kind: Literal["query_detection"] = "query_detection"
    method: Annotated[Literal["knn", "energy"], Shown(always=True)] = "knn"
    space: Literal["features", "pixels"] = "features"
    neighbors: Annotated[Count, Shown("k={}")] = 50
    references: Count = 5000
    false_rejects: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.05
    action: Annotated[Literal["refuse", "relabel"], Shown(always=True)] = "refuse"

    def __post_init__(self) -> None:
        for name in () if self._detection.remembers else ("space", "neighbors", "references"):
            usual = type(self).__dataclass_fields__[name].default
            if (value := getattr(self, name)) != usual:
                reason = f"{self.method} with {self.action} compares an image with no other: leave it out"
                raise ValueError(f"{name}: {value!r} is not allowed: {reason}")

    def validate(self, facts: TargetFacts) -> None:
        """Raise ValueError for fewer images than two, or fewer references than neighbours."""
        super().validate(facts)
        held = image_count(self.source, facts)
        if held is None:
            return
        if held < 2:
            raise ValueError(f"{facts.path}.source: {held} images are not allowed: the threshold needs 2 or more")
        kept = self._reference_count(held)
        if self._detection.remembers and self.neighbors > kept:
            reason = f"there are {kept} references, of {held} images of the attacker"
            raise ValueError(f"{facts.path}.neighbors: {self.neighbors} is not allowed: {reason}")

    def uses_images(self) -> bool:
        """As references, and for the threshold."""
        return True

    def deployment(self) -> Deployment:
        """The detector."""
        return Deployment(detection=self._detection)

    @property
    def _detection(self) -> Detection:
        return Detection(method=self.method, space=self.space, neighbors=self.neighbors, action=self.action)

    def _reference_count(self, held: int) -> int:
        return min(held // 2, self.references) if self._detection.remembers else 0

    def prepare(self, deployed: Deployed, access: WhiteBoxAccess) -> None:
        """Remember some images, and set the threshold by the others."""
        assert deployed.detector is not None, "a detector is what it deploys"
        images = access.images.images
        order = torch.randperm(len(images), generator=make_generator(access.seed, "halves"))
        kept = self._reference_count(len(images))
        if kept:
            reference = select(images, order[:kept].sort().values)
            labels = first_choices(predict_logits(access.model, reference))
            deployed.detector.remember(_seen(deployed, reference).points, labels)
        calibration = _seen(deployed, select(images, order[kept:].sort().values))
        deployed.detector.calibrate(deployed.detector.oddness(calibration), self.false_rejects)


def _seen(deployed: Deployed, images: Images) -> Any:
    """What the detector judges any number of images (uint8 n c h w) by."""
    with eval_mode(deployed):
        parts = [deployed.observe(to_float(batch)) for batch in in_batches(images, eval_batch_size(images))]
    return Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))
