"""Small networks without batch norm, as a user's own functions would build them."""

from __future__ import annotations

from typing import Any

from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer


def small_vit(shape: tuple[int, int, int], classes: int, width: int = 16, dropout: float = 0.1) -> Any:
    """A vision transformer of one layer, patches of a quarter of the side, three channels."""
    sizes: dict[str, Any] = {"hidden_dim": width, "mlp_dim": 2 * width, "num_classes": classes, "dropout": dropout}
    return VisionTransformer(shape[1], patch_size=shape[1] // 4, num_layers=1, num_heads=2, **sizes)


def small_convnext(classes: int) -> Any:
    """A ConvNeXt of two blocks, which are dropped by chance (stochastic depth)."""
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], 0.2, num_classes=classes)


def small_swin(classes: int) -> Any:
    """A Swin transformer of two blocks with shifted windows."""
    return SwinTransformer([2, 2], 8, [1, 1], [1, 2], [4, 4], num_classes=classes)
