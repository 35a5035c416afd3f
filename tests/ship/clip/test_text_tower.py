"""The text tower equals open_clip's encode_text and blocks."""

from functools import partial
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn.functional import cosine_similarity, normalize

from ship.architectures import Precision
from ship.clip import FrozenCLIP, make_class_prompts
from ship.clip.causal import CausalTower
from tests.ship import by_hand
from tests.ship.conftest import build_clip

TEXTS = [
    "a photo of a cat.",
    "dog",
    "a photo of the very last hot air balloon over the sea, in the evening.",
]


def names_of(n: int) -> list[str]:
    """Return names of one to seven words."""
    return [f"{'very ' * (i % 7)}red fire truck" for i in range(n)]


@pytest.mark.parametrize("name", ["pocket", "RN50:random"])
def test_text_tower_equals_encode_text(name: str) -> None:
    """Trimmed prompts, and names after a shared prefix, equal open_clip's encode_text."""
    clip = FrozenCLIP.load(name)
    texts = [f"a photo of a {name}." for name in ("cat", "red fire truck", "ice")]
    with torch.no_grad():
        ids, other_ids = clip.tokenizer(texts), clip.tokenizer(TEXTS)
        expected, whole = (clip._model.encode_text(i, normalize=True) for i in (ids, other_ids))
    torch.testing.assert_close(clip.encode_texts(TEXTS), whole, atol=1e-5, rtol=0)
    eot = (ids == clip.tokenizer.eot_token_id).int().argmax(1)
    embedded = clip.text.embed(ids)
    actual = clip.text.encode_shared(embedded[:2, :5], embedded[:, 5:], (eot - 4).tolist())
    torch.testing.assert_close(actual, expected.expand(2, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("n", "n_ctx", "depth", "m"),
    [
        (1, 4, None, 0), (7, 1, None, 0), (7, 12, None, 0), (40, 4, None, 0),
        (1, 4, 1, 4), (1, 1, 2, 1), (20, 12, 1, 5), (20, 4, 2, 1),
    ],
)  # fmt: skip
def test_every_path_through_the_tower_equals_open_clips_blocks(
    clip64: FrozenCLIP, n: int, n_ctx: int, depth: int | None, m: int
) -> None:
    """Packed, grouped and batched prompts have the features and gradients of open_clip's blocks."""
    text, parts = clip64.text, make_class_prompts(clip64, names_of(n), n_ctx)
    rng = torch.Generator().manual_seed(0)
    shapes = [(2, n_ctx, 24), (2, n, m, 24)][: 1 if depth is None else 2]
    leaves = [torch.randn(s, dtype=torch.float64, generator=rng).requires_grad_() for s in shapes]
    target = torch.randn(2, n, 16, dtype=torch.float64, generator=rng)
    each = leaves[0].repeat_interleave(n, 0)
    inner_tokens: tuple[Any, ...] = ()
    inner = None
    if depth is not None:
        inner_tokens = (leaves[1], depth)
        inner = (depth, 1 + n_ctx - m, leaves[1].flatten(0, 1))
    packed = text.encode_shared(
        parts.prefix(leaves[0]), parts.names, parts.host_lengths, *inner_tokens
    )
    expected = by_hand.tower(clip64, *by_hand.prompts(clip64, each, names_of(n) * 2), inner)
    ways = [expected, packed.flatten(0, 1)]
    if depth is None:
        whole = parts.assemble(each, torch.arange(n).repeat(2))
        ways += [text.encode(*whole), text._encode_batch(*whole)]
    else:
        plain = text.encode_shared(parts.prefix(leaves[0]), parts.names, parts.host_lengths)
        assert (packed - plain).abs().max() > 1e-3
    for actual in ways:
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)
        loss = (actual * target.flatten(0, 1)).sum()
        result = torch.autograd.grad(loss, leaves, retain_graph=True)
        if actual is expected:
            gradients = result
        torch.testing.assert_close(result, gradients, atol=1e-8, rtol=0)


def test_constant_keys_and_values_of_sot_change_only_rounding() -> None:
    """Constant SOT keys change features by at most 1e-6, gradients by 1e-5."""
    clip = FrozenCLIP.load("pocket")
    text, parts = clip.text, make_class_prompts(clip, names_of(9), 4)
    rng = torch.Generator().manual_seed(0)
    ctx = (0.02 * torch.randn(9, 4, text.width, generator=rng)).requires_grad_()
    prompts, eot = parts.assemble(ctx, torch.arange(9))
    ways = [text._encode_batch(prompts, eot), text._encode_without_sot(prompts, eot)]
    target = torch.randn(ways[0].shape, generator=rng)
    expected, result = ((x, torch.autograd.grad((x * target).sum(), ctx)[0]) for x in ways)
    assert (result[0] - expected[0]).abs().max() < 1e-6
    assert (result[1] - expected[1]).abs().max() < 1e-5 * expected[1].abs().max()


@pytest.mark.parametrize(
    "changes",
    [
        {"proj_bias": True},
        {"proj_type": "none"},
        {"ls_init_value": 0.5},
        {"mlp_ratio": 2.0},
        {"pool_type": "eos", "eos_id": 49407},
        {"norm_layer": partial(open_clip.transformer.LayerNorm, eps=1e-2)},
        {"act_layer": partial(torch.nn.GELU, approximate="tanh")},
        {"output_tokens": True},
    ],
)
def test_supported_tower_settings_equal_open_clip(changes: dict[str, Any]) -> None:
    """All supported settings of a causal tower give open_clip's features."""
    sizes = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
    model = torch.nn.Module()
    torch.manual_seed(0)
    model.text = open_clip.transformer.TextTransformer(**{**sizes, "output_dim": 6, **changes})
    ids = SimpleTokenizer(context_length=12)(["a photo of a cat.", "dog"])
    expected = model.text(ids)
    expected = expected[0] if changes.get("output_tokens") else expected
    tower = CausalTower(model.requires_grad_(False), int(ids[0, 0]))
    actual = tower.encode(tower.embed(ids), ids.argmax(1))
    torch.testing.assert_close(actual, normalize(expected, dim=-1))


def reduced(precision: Precision, dtype: torch.dtype = torch.float32) -> FrozenCLIP:
    """Return the tiny CLIP with text blocks of lower precision."""
    clip = build_clip(dtype)
    return FrozenCLIP("tiny", clip._model, clip.tokenizer, precision=precision)


@pytest.mark.parametrize("precision", ["bf16"])
def test_reduced_precision_is_close_to_float32(clip: FrozenCLIP, precision: Precision) -> None:
    """Features and gradients of reduced precision are float32 and close, on every path."""
    rng = torch.Generator().manual_seed(0)
    leaves = [torch.randn(s, generator=rng).requires_grad_() for s in ((2, 4, 24), (2, 9, 4, 24))]
    target = 1e-6 * torch.randn(16, generator=rng)
    actual = []
    for backbone in (clip, reduced(precision)):
        parts, ids = make_class_prompts(backbone, names_of(9), 4), backbone.tokenizer(TEXTS)
        shared = (parts.prefix(leaves[0]), parts.names, parts.host_lengths)
        prompts = backbone.text.embed(ids).requires_grad_()
        ways = [
            (backbone.text.encode(prompts, ids.argmax(1)), [prompts]),
            (backbone.text.encode_shared(*shared), leaves[:1]),
            (backbone.text.encode_shared(*shared, leaves[1], 2), leaves),
        ]
        actual.append([(x, torch.autograd.grad((x @ target).sum(), inputs)) for x, inputs in ways])
    for (exact, exactly), (features, gradients) in zip(*actual, strict=True):
        assert features.dtype == torch.float32 and not torch.equal(features, exact)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:-1]))
        assert (features * exact).sum(-1).min() > 1 - 1e-2
        for gradient, exact_gradient in zip(gradients, exactly, strict=True):
            assert gradient.dtype == torch.float32
            assert cosine_similarity(gradient.flatten(), exact_gradient.flatten(), dim=0) > 0.99
            torch.testing.assert_close(gradient.norm(), exact_gradient.norm(), rtol=0.05, atol=0)
