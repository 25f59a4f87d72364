"""Images that stay in the memory of the host: many trainings read one copy, and a batch at a time goes to a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mwm.data.images import Augmentation, Views, augment, convert_images, draw_views

ImagesOn = Literal["auto", "device", "host"]
"""Where the images of a trial lie: on its device, on the host, or where they fit. No result depends on it."""

AHEAD = 2
"""Batches that are on their way to a GPU while it works on the one before."""

PIECE = 1024
"""Images that are fitted to another shape at once."""

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, eq=False, slots=True)
class HostImages:
    """Images (uint8 n c h w) that stay on the host, and are worked on by `device`.

    `pixels` is an array that others read, too: in shared memory, or mapped from a file. `rows` (int64 n) says which of
    its images these are, in their order. `views` say how each is shown, if not as it is.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    device: torch.device
    views: Views | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """Number of images, channels, height and width."""
        return torch.Size((len(self.rows), *self.pixels.shape[1:]))

    def select(self, rows: Tensor) -> HostImages:
        """Those with some numbers (int64 k), or those that are marked (bool n); nothing is copied."""
        picked = self.rows[rows.cpu().numpy()]
        return replace(self, rows=picked, views=None if self.views is None else self.views.select(rows))

    def shown(self, views: Views) -> HostImages:
        """The same images, each shown in a view of its own."""
        assert self.views is None, "views of views are not needed"
        return replace(self, views=views)

    def copied(self) -> Tensor:
        """All of them on the device."""
        every = torch.arange(len(self))
        return self._view(self._read(every).to(self.device), every)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images with some numbers (int64 k), on the device."""
        (batch,) = self.stream([rows])
        return batch

    def stream(self, picks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batch after batch on the device (uint8 k c h w), by the numbers (int64 k) of their images.

        For a GPU a thread reads the next ones meanwhile, into pinned memory, and a stream of their own takes them over.
        """
        if self.device.type != "cuda":
            for pick in picks:
                yield self._view(self._read(pick), pick)
            return
        upload = _Upload(self.device)
        with closing(ahead(lambda pick: (pick, upload.send(self._read(pick, upload.space))), picks)) as sent:
            for pick, on_its_way in sent:
                yield self._view(upload.arrived(*on_its_way), pick)

    def _read(self, pick: Tensor, space: Callable[[tuple[int, ...]], Tensor] | None = None) -> Tensor:
        """The images with some numbers, on the host: in new memory, or in some `space` of their shape."""
        rows = self.rows[pick.cpu().numpy()]
        if space is None:
            return torch.from_numpy(np.take(self.pixels, rows, axis=0))
        room = space((len(rows), *self.pixels.shape[1:]))
        np.take(self.pixels, rows, axis=0, out=room.numpy(), mode="clip")  # with "raise", NumPy reads into a copy first
        return room

    def _view(self, images: Tensor, pick: Tensor) -> Tensor:
        return images if self.views is None else self.views.select(pick)(images)


Images = Tensor | HostImages
"""Images (uint8 n c h w), all on the device that works on them, or on the host."""

Kind = TypeVar("Kind", bound=Images)


def select(images: Kind, rows: Tensor) -> Kind:
    """Those with some numbers (int64 k), or those that are marked (bool n)."""
    chosen: Any = images.select(rows) if isinstance(images, HostImages) else images[rows]
    return chosen  # type: ignore[no-any-return]


def in_batches(images: Images, size: int) -> Iterator[Tensor]:
    """All images in their order, so many at a time, on the device."""
    if isinstance(images, HostImages):
        return images.stream(torch.split(torch.arange(len(images)), size))
    return iter(torch.split(images, size))


def picked(images: Images, order: Tensor, size: int) -> Iterator[Tensor]:
    """Images by their numbers (int64 k, on the device), so many at a time, on the device."""
    if isinstance(images, HostImages):
        return images.stream(torch.split(order.cpu(), size))
    return (images.index_select(0, pick) for pick in torch.split(order, size))


def augmented(images: Images, augmentation: Augmentation, generator: torch.Generator) -> Images:
    """All images, each shown as in training; what is on the host is shown so when it is read."""
    if not isinstance(images, HostImages):
        return augment(images, augmentation, generator)
    return images.shown(draw_views(len(images), augmentation, generator)) if augmentation else images


def fitted(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Foreign images (n c h w) in `shape` (c, h, w): the very array if it has that shape, else a new one."""
    if images.shape[1:] == shape:
        return images
    made = np.empty((len(images), *shape), np.uint8)
    for start in range(0, len(images), PIECE):
        made[start : start + PIECE] = convert_images(torch.tensor(images[start : start + PIECE]), shape).numpy()
    return made


def joined(parts: Sequence[Images]) -> Images:
    """Several lots of images as one; those on the host are of the same pixels, and all or none have views."""
    if not isinstance(first := parts[0], HostImages):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    lots = [part for part in parts if isinstance(part, HostImages)]
    assert all(part.pixels is first.pixels for part in lots), "images of several arrays"
    views = [part.views for part in lots if part.views is not None]
    rows = np.concatenate([part.rows for part in lots])
    return replace(first, rows=rows, views=Views.joined(views) if views else None)


def ahead(make: Callable[[S], T], wanted: Iterable[S], depth: int = AHEAD) -> Generator[T, None, None]:
    """`make` of each thing that is wanted, in their order, made in a thread, `depth` of them before they are asked for.

    What the thread raises is raised here. It ends with the iteration, also where that is left early.
    """
    under_way: deque[Future[T]] = deque()
    thread = ThreadPoolExecutor(1, "batches")
    try:
        for one in wanted:
            under_way.append(thread.submit(make, one))
            if len(under_way) > depth:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


class _Upload:
    """The way of batches to a GPU: pinned memory that is used again, and a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._sent: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def space(self, shape: tuple[int, ...]) -> Tensor:
        """Pinned memory for a batch of a shape: that of one which is there, or else new."""
        if len(self._sent) > AHEAD:
            room, done = self._sent.popleft()
            done.synchronize()
            if len(room) >= shape[0] and room.shape[1:] == shape[1:]:
                return room[: shape[0]]
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def send(self, batch: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        """Begin to copy a batch to the device: its copy, and the event of its arrival."""
        with torch.cuda.stream(self._stream):
            copy = batch.to(self._device, non_blocking=True)
            done = self._stream.record_event()
        self._sent.append((batch, done))
        return copy, done

    def arrived(self, copy: Tensor, done: torch.cuda.Event) -> Tensor:
        """The copy, for work that is given to the device from now on: that waits for it, and the host does not."""
        here = torch.cuda.current_stream(self._device)
        here.wait_event(done)
        copy.record_stream(here)
        return copy
