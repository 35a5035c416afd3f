"""The fingerprint of a backbone: whatever moves its features, and nothing else, moves it."""

from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from torch import nn

from ship.clip.weights import fingerprint
from tests.ship.conftest import build_clip

CONFIG = {"embed_dim": 16, "text_cfg": {"context_length": 24}}


@pytest.fixture
def model() -> CLIP:
    """The tiny CLIP's model."""
    found: CLIP = build_clip()._model
    return found


def test_how_a_model_is_printed_does_not_matter(
    model: CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of torch that prints its layers otherwise makes no result foreign."""
    before, printed = fingerprint(model, CONFIG), repr(model)
    monkeypatch.setattr(nn.Module, "__repr__", lambda self: "something else")
    monkeypatch.setattr(nn.Module, "extra_repr", lambda self: "more")
    assert repr(model) != printed
    assert fingerprint(model, CONFIG) == before


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("transformer.resblocks.1.mlp.gelu", QuickGELU()),
        ("transformer.resblocks.1.mlp.gelu", nn.GELU(approximate="tanh")),
        ("transformer.resblocks.0.attn.num_heads", 4),
        ("ln_final.eps", 1e-3),
        ("text_pool_type", "last"),
        ("context_length", 20),
    ],
)
def test_whatever_changes_the_function_does(model: CLIP, place: str, value: Any) -> None:
    """The activation, heads of the same matrices, constants, pooling and length are all in it."""
    before = fingerprint(model, CONFIG)
    where, _, name = place.rpartition(".")
    setattr(model.get_submodule(where), name, value)
    assert fingerprint(model, CONFIG) != before


def test_weights_and_their_type_are_in_it(model: CLIP) -> None:
    """The smallest change of one weight, or equal values in double precision."""
    before = fingerprint(model, CONFIG)
    with torch.no_grad():
        weight = model.ln_final.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    changed = fingerprint(model, CONFIG)
    assert len({before, changed, fingerprint(model.double(), CONFIG)}) == 3


def test_the_configuration_is_in_it_but_for_the_activation(model: CLIP) -> None:
    """The order of its keys is not, and neither is quick_gelu, which the layers tell better."""
    before = fingerprint(model, CONFIG)
    turned = {"quick_gelu": True, **dict(reversed(CONFIG.items()))}
    assert fingerprint(model, turned) == before
    for other in (None, {}, {**CONFIG, "embed_dim": 17}):
        assert fingerprint(model, other) != before
