"""Which backbone this is: a hash of everything that decides the numbers that it gives.

What a release of torch may change without changing a number, as how a model is printed, stays out.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

# What of a layer decides its function beside its weights, by the layer's kind; and QuickGELU.
_DECIDING: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.MultiheadAttention: ("num_heads",),
    nn.LayerNorm: ("eps",),
    nn.BatchNorm2d: ("eps",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups"),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.SiLU: (),
}
# What of a text tower does; CLIP names its pooling otherwise than CustomTextCLIP's tower.
_TOWER: Final = ("context_length", "text_pool_type", "pool_type")


def fingerprint(model: nn.Module, config: Mapping[str, Any] | None = None) -> str:
    """Hash of a model's weights, of the layers' settings, and of its architecture.

    The activation is that of the layers as they are built, whatever the configuration names: the
    weights decide it (ViT-B-16:openai has QuickGELU, too).

    Args:
        model: a CLIP of open_clip.
        config: open_clip's configuration of its architecture; None where there is none.

    Returns:
        32 hex digits.
    """
    from open_clip.transformer import QuickGELU

    tower = getattr(model, "text", model)
    described = {
        "config": None if config is None else {k: config[k] for k in config if k != "quick_gelu"},
        "tower": {name: getattr(tower, name, None) for name in _TOWER},
        "layers": [
            [name, kind.__name__, *(getattr(layer, setting) for setting in settings)]
            for name, layer in model.named_modules()
            for kind, settings in {**_DECIDING, QuickGELU: ()}.items()
            if isinstance(layer, kind)
        ],
    }
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(described, sort_keys=True).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return digest.hexdigest()
