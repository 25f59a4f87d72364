"""Deployed networks: what stands around one is in every answer, and goes with copies, states and files."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mwm.config.spec import decode, encode
from mwm.models.answers import GaussianNoise, Rounding, TopK
from mwm.models.build import ArchitectureSpec, rebuild_model
from mwm.models.deployed import Deployed, Deployment, Votes, deployed
from mwm.models.detection import LEAST_LOG, Detection, first_choices
from mwm.models.image_draws import ImageDraws
from mwm.models.inputs import BitDepth, InputNoise, Shift, transformed
from mwm.training.evaluation import predict_logits
from tests.helpers.stealing import CLASSES, SHAPE, some, victim

SEED = 11
LABEL = TopK(k=1, renormalize=True)
LAYERS = [
    Deployment(inputs=(BitDepth(levels=3), Shift())),
    Deployment(inputs=(InputNoise(deviation=0.2),), votes=Votes(copies=4, noise=0.3), answers=(Rounding(digits=1),)),
    Deployment(votes=Votes(copies=3, noise=0.0, shift=2, by="probabilities")),
    Deployment(answers=(GaussianNoise(deviation=0.3), LABEL)),
    Deployment(detection=Detection(neighbors=3)),
    Deployment(detection=Detection(method="energy", action="relabel", space="pixels", neighbors=5), answers=(LABEL,)),
]


def network() -> nn.Module:
    """One that tells random images apart: its logits are spread round zero."""
    model = victim().eval().requires_grad_(False)
    head: Any = model.get_submodule("network.fc")
    logits = model(shown(200, 5))
    head.weight *= (factors := 2 / logits.std(0))[:, None]
    head.bias -= logits.mean(0)
    head.bias *= factors
    return model


def shown(n: int = 20, seed: int = 1) -> Tensor:
    return some(n, seed).images / 255


def taught(one: Deployment, inner: nn.Module | None = None, seed: int = SEED) -> Deployed:
    """A deployed network whose detector, if it has one, rejects about half of all images."""
    made = Deployed(network() if inner is None else inner, one, seed).eval()
    if made.detector is not None:
        seen = made.observe(shown(30, 2))
        made.detector.remember(seen.points, first_choices(seen.logits))
        made.detector.calibrate(made.detector.oddness(made.observe(shown(30, 3))), 0.5)
    return made


def draws(images: Tensor) -> ImageDraws:
    return ImageDraws.of(images, torch.tensor(SEED))


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.words)
def test_an_image_is_answered_alike_at_all_times(one: Deployment) -> None:
    made, images = taught(one), shown()
    answers = made(images)
    assert answers.shape == (20, CLASSES)
    assert not torch.allclose(answers, made.network(images)), "nothing stands around it"
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    for again in (made(images), deepcopy(made)(images), torch.cat([made(images[row : row + 1]) for row in range(20)])):
        torch.testing.assert_close(again, answers, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made(images[order]), answers[order], rtol=1e-4, atol=1e-5)
    assert torch.equal(predict_logits(made, some(20, 1).images), made(images))
    if one.draws:
        assert not torch.equal(taught(one, seed=12)(images), answers), "another seed, the same answers"


@pytest.mark.parametrize("one", LAYERS, ids=lambda one: one.words)
def test_a_network_is_rebuilt_as_it_is_deployed(one: Deployment) -> None:
    outer = Deployment(inputs=(InputNoise(),))
    made = taught(outer, taught(one))
    model = victim_record()
    about = ArchitectureSpec(model=model, shape=SHAPE, classes=CLASSES, deployments=(one, outer))
    read = decode(ArchitectureSpec, about.tree())
    assert read == about
    built, images = rebuild_model(read, made.state_dict()), shown()
    assert torch.equal(built(images), made(images))
    assert repr(built) == repr(made), "a network is known by what it says of itself"
    loaded = deployed(victim(3), (one, outer))
    loaded.load_state_dict(made.state_dict())
    assert torch.equal(loaded.eval()(images), made(images))


def victim_record() -> Any:
    """The record of the helper's victim."""
    from mwm.models.networks import Cnn

    return Cnn(width=4, depth=2)


def test_a_network_that_stands_alone_is_told_as_ever() -> None:
    alone = ArchitectureSpec(model=victim_record(), shape=SHAPE, classes=CLASSES)
    assert alone.tree() == {name: value for name, value in encode(alone).items() if name != "deployments"}
    assert decode(ArchitectureSpec, alone.tree()) == alone
    assert deployed(model := network(), ()) is model


def test_inputs_are_transformed_before_the_network() -> None:
    one, images = LAYERS[0], shown()
    expected = network()(transformed(images, one.inputs, draws(images)))
    assert torch.equal(taught(one)(images), expected)
    plain = Deployment(inputs=(BitDepth(levels=3),))
    assert "seed" not in taught(plain).state_dict(), "nothing is drawn"
    assert torch.equal(taught(plain)(images), network()((images * 2).round() / 2))


@pytest.mark.parametrize("by", ["labels", "probabilities"])
def test_votes_are_those_of_a_plain_loop(by: Any) -> None:
    votes, images = Votes(copies=5, noise=0.3, shift=1, by=by), shown()
    found = taught(Deployment(votes=votes))(images)
    copies = [
        transformed(images, (Shift(pixels=1), InputNoise(deviation=0.3)), draws(images).further(k)) for k in range(5)
    ]
    answers = [network()(copy) for copy in copies]
    assert len({tuple(map(tuple, one.tolist())) for one in answers}) == 5, "two copies are the same"
    for row in range(len(images)):
        chances = [torch.softmax(one[row].double(), 0).tolist() for one in answers]
        named = Counter(max(range(CLASSES), key=one.__getitem__) for one in chances)
        for label, value in enumerate(found[row].tolist()):
            mean = sum(one[label] for one in chances) / 5 if by == "probabilities" else named[label] / 5
            assert value == pytest.approx(math.log(mean) if mean else LEAST_LOG, rel=1e-4, abs=1e-5)


class Silent(nn.Module):
    """A network that names no class on images whose first pixel is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.body(images)
        return answers * (images[:, 0, :1, :1].flatten(1) > 0.5)


def test_equal_scores_stay_equal_whatever_form_they_take() -> None:
    images = shown()
    dark = images[:, 0, 0, 0] <= 0.5
    for forms in ((LABEL,), (TopK(k=2),), (GaussianNoise(), LABEL), (Rounding(digits=1),)):
        found = taught(Deployment(answers=forms), Silent())(images)
        assert (found[dark] == 0).all()
        assert not (found[~dark] == 0).all(1).any()


def test_no_copy_votes_that_names_no_class() -> None:
    votes, images = Votes(copies=6, noise=0.4, shift=1), shown()
    found = taught(Deployment(votes=votes), Silent())(images)
    copies = [transformed(images, votes.jitter, draws(images).further(copy)) for copy in range(6)]
    named = torch.stack([first_choices(Silent()(copy)) for copy in copies], 1)
    silent = 0
    for row, choices in zip(found, named.tolist(), strict=True):
        told = Counter(choice for choice in choices if choice >= 0)
        silent += not told
        shares = [told[label] / max(told.total(), 1) for label in range(CLASSES)]
        torch.testing.assert_close(row.exp(), torch.tensor(shares), atol=1e-6, rtol=1e-5)
        assert (first_choices(row[None]).item() == -1) == (not told or len({*shares}) == 1)
    assert silent, "every image was named by some copy"


def test_answers_are_in_their_forms() -> None:
    images = shown()
    found, logits = taught(Deployment(answers=(LABEL,)))(images), network()(images)
    assert torch.equal(found.argmax(1), logits.argmax(1))
    assert {*found.flatten().tolist()} == {0.0, LEAST_LOG}
    rounded = taught(Deployment(answers=(Rounding(digits=2),)))(images).exp()
    torch.testing.assert_close(rounded, (logits.softmax(1) * 100).round() / 100)


def test_what_is_turned_away_is_told_through_all_layers() -> None:
    inner, images = taught(LAYERS[4]), shown()
    assert inner.detects
    own = inner.rejects(images)
    assert 0 < own.sum() < len(images)
    assert torch.equal(own, (inner(images) == 0).all(1))
    changed = transformed(images, (Shift(),), draws(images))
    assert torch.equal(taught(Deployment(inputs=(Shift(),)), inner).rejects(images), inner.rejects(changed))
    votes = Votes(copies=4, noise=0.2)
    copies = [inner.rejects(transformed(images, votes.jitter, draws(images).further(copy))) for copy in range(4)]
    expected = torch.stack(copies).sum(0) > 2
    assert torch.equal(taught(Deployment(votes=votes), inner).rejects(images), expected)
    both = taught(LAYERS[5], inner)
    assert torch.equal(both.rejects(images), both.detector.rejects(both.observe(images)) | own)  # type: ignore[union-attr]
    alone = taught(LAYERS[0])
    assert not alone.detects
    assert not alone.rejects(images).any()


def test_a_detector_of_a_voting_network_hears_the_network_itself() -> None:
    inner = taught(Deployment(votes=Votes(copies=3)))
    outer, images = taught(Deployment(detection=Detection(method="energy")), inner), shown()
    last = transformed(images, Votes().jitter, draws(images).further(2))
    torch.testing.assert_close(outer.observe(images).logits, network()(last))


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"votes": {"copies": 1}}, "votes.copies: 1 is not allowed: must be greater than or equal to 2"),
        ({"votes": {"noise": 0.0, "shift": 0}}, "noise: 0 is not allowed with shift: 0: all copies would be the same"),
        ({"detection": {"method": "auto"}}, "detection.method: 'auto' is not allowed"),
        ({"inputs": ["mirror"]}, "inputs.0: kind 'mirror' is unknown"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        decode(Deployment, tree)
    assert "\n" not in str(refused.value)
