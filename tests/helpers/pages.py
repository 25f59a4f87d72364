"""A page of HTML as a reader without a browser has it: well-formed, complete in itself, with its text."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EMPTY = {"meta", "img", "br", "link"}
"""Elements without an end."""
FETCHING = {"script", "link", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}


class Page(HTMLParser):
    """A page that was read: its text in one line, its images, the titles of its figures, its tables' rows."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.images: list[NDArray[np.uint8]] = []
        self.rows: list[list[str]] = []
        self.figures: list[str] = []
        self._ids: list[str] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == [], f"{self._open} never end"
        assert content.startswith("<!DOCTYPE html>\n")
        assert not re.search(r"https?:|url\(|@import", re.sub(r"<body>.*", "", content, flags=re.DOTALL))
        assert len(self._ids) == len({*self._ids}), "two elements share an id"
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        assert tag not in FETCHING, f"{tag} is not for a page that stands alone"
        assert not {"href", "onclick", "onload", "srcset"} & told.keys()
        self._ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "img":
            kind, _, data = (told["src"] or "").partition("base64,")
            assert kind == "data:image/png;"
            assert told["alt"], "an image without words"
            self.images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} ends before what stands in it"

    def handle_data(self, data: str) -> None:
        if "svg" in self._open and self._open[-1] == "title":
            self.figures.append(data)
        if self._open[-1:] in (["title"], ["style"]):
            return
        self._words.append(data)
        if self._open[-1:] in (["th"], ["td"]):
            self.rows[-1][-1] += " ".join(data.split())
