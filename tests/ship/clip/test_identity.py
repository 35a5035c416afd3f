"""The fingerprint of a backbone: whatever moves its features, and nothing else, moves it."""

from collections.abc import Callable

import pytest
import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from torch import nn

from ship.architectures import find_config
from ship.clip.identity import fingerprint
from tests.ship.conftest import build_clip

CONFIG = {"embed_dim": 16, "text_cfg": {"context_length": 24}}


@pytest.fixture
def model() -> CLIP:
    """The tiny CLIP's model."""
    found: CLIP = build_clip()._model
    return found


def print_otherwise(model: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print every module as another release of torch might."""
    before = repr(model)
    monkeypatch.setattr(nn.Module, "__repr__", lambda self: "something else")
    monkeypatch.setattr(nn.Module, "extra_repr", lambda self: "more")
    assert repr(model) != before


def test_how_a_model_is_printed_does_not_matter(
    model: CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of torch that prints its layers otherwise makes no result foreign."""
    before = fingerprint(model, CONFIG)
    print_otherwise(model, monkeypatch)
    assert fingerprint(model, CONFIG) == before


def other_activation(model: CLIP) -> None:
    """QuickGELU in one block, with the same weights."""
    model.transformer.resblocks[1].mlp.gelu = QuickGELU()


def other_approximation(model: CLIP) -> None:
    """The tanh form of GELU."""
    model.transformer.resblocks[1].mlp.gelu = nn.GELU(approximate="tanh")


def other_weight(model: CLIP) -> None:
    """The smallest change of one weight."""
    with torch.no_grad():
        weight = model.ln_final.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))


def other_type(model: CLIP) -> None:
    """Equal values in double precision."""
    model.double()


def other_heads(model: CLIP) -> None:
    """The same matrices, cut into more heads."""
    model.transformer.resblocks[0].attn.num_heads = 4


def other_epsilon(model: CLIP) -> None:
    """Another constant below a root."""
    model.ln_final.eps = 1e-3


def other_pooling(model: CLIP) -> None:
    """The text's feature from another place."""
    model.text_pool_type = "last"


def other_length(model: CLIP) -> None:
    """Shorter prompts."""
    model.context_length = 20


@pytest.mark.parametrize(
    "change",
    [
        other_activation, other_approximation, other_weight, other_type, other_heads,
        other_epsilon, other_pooling, other_length,
    ],
)  # fmt: skip
def test_whatever_changes_the_function_does(model: CLIP, change: Callable[[CLIP], None]) -> None:
    """Weights, their type, the activation, heads, constants, pooling and length are all in it."""
    before = fingerprint(model, CONFIG)
    change(model)
    assert fingerprint(model, CONFIG) != before


def test_the_configuration_is_in_it_but_for_the_activation(model: CLIP) -> None:
    """The order of its keys is not, and neither is quick_gelu, which the layers tell better."""
    before = fingerprint(model, CONFIG)
    turned = {"quick_gelu": True, **dict(reversed(CONFIG.items()))}
    assert fingerprint(model, turned) == before
    for other in (None, {}, {**CONFIG, "embed_dim": 17}):
        assert fingerprint(model, other) != before


def test_configurations_are_found_by_name() -> None:
    """The packaged backbone has one, open_clip's names have, and others have none."""
    for name in ("pocket", "ViT-B-16"):
        found = find_config(name)
        assert found is not None and found["embed_dim"] > 0
    assert find_config("tiny") is None
