"""The published training loop as a plain textbook one (Kim et al., 2023): what the engine is measured against.

Float32, contiguous tensors, pictures one by one through two worker processes, slopes of the weights that nobody asked
for in every ascent, and four numbers fetched from the device in every step. It uses nothing of the product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WORKERS, RATE, WEIGHT_DECAY = 2, 0.1, 1e-4


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images (uint8 n c h w) one by one, as torchvision's data sets give them: opened by Pillow, then transformed."""

    def __init__(self, images: Tensor, labels: Tensor, view: Any) -> None:
        pixels = images.permute(0, 2, 3, 1).numpy()
        self.pixels = pixels[..., 0] if pixels.shape[3] == 1 else pixels
        self.labels, self.view = labels.tolist(), view

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.view(Image.fromarray(self.pixels[number])), self.labels[number]


def training_batches(images: Tensor, labels: Tensor, *, flip: bool, pad: int, batch: int) -> DataLoader[Any]:
    """Shuffled, augmented batches without the last partial one."""
    mirror = [transforms.RandomHorizontalFlip()] if flip else []
    crop = transforms.RandomCrop(images.shape[2:], padding=pad)
    view = transforms.Compose([*mirror, crop, transforms.ToTensor()])
    return DataLoader(Pictures(images, labels, view), batch, shuffle=True, drop_last=True, num_workers=WORKERS)


def validation_batches(images: Tensor, labels: Tensor, *, batch: int) -> DataLoader[Any]:
    """All images in their order."""
    return DataLoader(Pictures(images, labels, transforms.ToTensor()), batch, num_workers=WORKERS)


class Loop:
    """A network that is trained with `drawn` of the queries (float n c h w in [0, 1]) in every step."""

    def __init__(
        self,
        model: nn.Module,
        queries: Tensor,
        assigned: Tensor,
        *,
        drawn: int = 25,
        steps: int = 5,
        step_size: float = 1 / 255,
        weight: float = 0.1,
        momentum: float = 0.0,
    ) -> None:
        self.model, self.queries, self.assigned = model, queries, assigned
        self.drawn, self.steps, self.step_size, self.weight = drawn, steps, step_size, weight
        self.optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=momentum, weight_decay=WEIGHT_DECAY)

    def climbed(self, x: Tensor, t: Tensor) -> Tensor:
        """The queries after `steps` moves up the loss of their labels."""
        for _ in range(self.steps):
            x = x.detach().clone().requires_grad_()
            torch.autograd.backward(F.cross_entropy(self.model(x), t))
            assert x.grad is not None
            x = (x.detach() + self.step_size * x.grad.sign()).clamp(0, 1)
            self.model.zero_grad()
        return x

    def learn(self, images: Tensor, labels: Tensor, pick: Tensor, rate: float) -> tuple[Tensor, ...]:
        """One update with the queries numbered `pick`: loss, accuracy, loss and accuracy of the queries."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        answers = self.model(images)
        accuracy = (answers.argmax(1) == labels).float().mean()
        clean = F.cross_entropy(answers, labels, reduction="none")
        t = self.assigned[pick]
        said = self.model(self.climbed(self.queries[pick], t))
        held = F.cross_entropy(said, t, reduction="none")
        loss = torch.cat([clean, self.weight * held]).mean()
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss, accuracy, held.mean(), (said.argmax(1) == t).float().mean()

    def step(self, images: Tensor, labels: Tensor, rate: float) -> list[float]:
        """One update from a batch in the computer's memory, and its four numbers."""
        device = self.queries.device
        pick = torch.randint(len(self.queries), (self.drawn,), device=device)
        return [number.item() for number in self.learn(images.to(device), labels.to(device), pick, rate)]

    def epoch(self, batches: DataLoader[Any], number: int, epochs: int) -> float:
        """One pass over the images; the rate falls to a tenth at half and at three quarters. The mean loss."""
        self.model.train()
        losses = []
        for step, (images, labels) in enumerate(batches):
            done = (number + (step + 1) / len(batches)) / epochs
            losses.append(self.step(images, labels, RATE * 0.1 ** ((done >= 0.5) + (done >= 0.75)))[0])
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self, batches: DataLoader[Any]) -> float:
        """Accuracy on all images."""
        self.model.eval()
        device, right, count = self.queries.device, 0, 0
        for images, labels in batches:
            right += int((self.model(images.to(device)).argmax(1) == labels.to(device)).sum().item())
            count += len(labels)
        return right / count
