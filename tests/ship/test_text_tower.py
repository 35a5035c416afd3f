"""The text tower against open_clip's own encode_text."""

import open_clip
import pytest
import torch

from ship.backbone import FrozenCLIP
from ship.text_tower import TextTower, UndrivableTower, by_length

TEXTS = [
    "a photo of a cat.",
    "dog",
    "a photo of the very last hot air balloon over the sea, in the evening.",
]


@pytest.fixture(scope="module", params=["pocket", "ViT-B-16-quickgelu:random", "RN50:random"])
def backbone(request: pytest.FixtureRequest) -> FrozenCLIP:
    """The packaged backbone and two architectures whose text and feature widths differ."""
    return FrozenCLIP.load(request.param)


def reference(clip: FrozenCLIP, ids: torch.Tensor) -> torch.Tensor:
    """open_clip's own text features."""
    with torch.no_grad():
        return clip._model.encode_text(ids, normalize=True)


def test_equals_encode_text(backbone: FrozenCLIP) -> None:
    """Trimmed at the longest EOT, the features are open_clip's."""
    expected = reference(backbone, backbone.tokenizer(TEXTS))
    torch.testing.assert_close(backbone.encode_texts(TEXTS), expected, atol=1e-5, rtol=0)


def test_shared_prefix_equals_encode_text(backbone: FrozenCLIP) -> None:
    """A prefix computed once gives every class the features of its whole prompt."""
    ids = backbone.tokenizer([f"a photo of a {name}." for name in ("cat", "red fire truck", "ice")])
    eot = (ids == backbone.tokenizer.eot_token_id).int().argmax(1)
    embedded = backbone.text.embed(ids)
    prefix = torch.stack([embedded[0, :5], embedded[1, :5]])
    made = backbone.text.encode_shared(prefix, embedded[:, 5:], eot - 5)
    expected = reference(backbone, ids).expand(2, -1, -1)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_text_and_feature_widths_are_read_from_the_model(backbone: FrozenCLIP) -> None:
    """No size is taken for granted."""
    assert backbone.feature_dim == backbone.encode_texts(["a"]).shape[1]
    widths = {
        "pocket": (192, 256),
        "ViT-B-16-quickgelu:random": (512, 512),
        "RN50:random": (512, 1024),
    }
    assert (backbone.text_width, backbone.feature_dim) == widths[backbone.name]


def test_gradients_of_shared_prefix_equal_the_plain_path(clip64: FrozenCLIP) -> None:
    """The context's gradient is the same whether its prefix is shared or repeated."""
    ids = clip64.tokenizer(["a photo of a cat.", "a photo of a red fire truck."])
    eot = ids.argmax(1)
    embedded = clip64.text.embed(ids)
    target = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prefix = embedded[:1, :5].clone().requires_grad_()
    shared = clip64.text.encode_shared(prefix, embedded[:, 5:], eot - 5)[0]
    (expected,) = torch.autograd.grad((shared * target).sum(), prefix)
    whole = torch.cat([prefix.expand(2, -1, -1), embedded[:, 5:]], dim=1)
    (plain,) = torch.autograd.grad((clip64.text.encode(whole, eot) * target).sum(), prefix)
    torch.testing.assert_close(plain, expected, atol=1e-10, rtol=0)


def test_counts_tokens(clip: FrozenCLIP) -> None:
    """The cost counter counts positions that went through the layers."""
    before = clip.text_tokens
    clip.encode_texts(["cat", "sea lion"])  # SOT, up to two tokens, EOT
    assert clip.text_tokens - before == 2 * 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"no_causal_mask": True}, "bidirectional"),
        ({"pool_type": "last"}, "pools at 'last'"),
        ({"embed_cls": True}, "class embedding"),
        ({"block_type": "custom"}, "CustomResidualAttentionBlock"),
    ],
)
def test_refuses_towers_it_cannot_drive(changes: dict[str, object], why: str) -> None:
    """Another mask, pooling or block is named, not silently computed wrongly."""
    sizes = {"context_length": 8, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}
    tower = open_clip.transformer.TextTransformer(**{**sizes, **changes})
    model = torch.nn.Module()
    model.text = tower
    with pytest.raises(UndrivableTower, match=why):
        TextTower(model)


def test_groups_by_length_cover_every_row_once() -> None:
    """Short groups join longer ones; no row is lost, and no group is cut below its longest EOT."""
    eot = torch.tensor([5] * 40 + [3] * 33 + [9] * 2 + [6] * 4)
    groups = by_length(eot)
    assert sorted(torch.cat(groups).tolist()) == list(range(79))
    assert [sorted(set(eot[rows].tolist())) for rows in groups] == [[3], [5], [6, 9]]
