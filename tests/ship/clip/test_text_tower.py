"""The text tower against open_clip's own encode_text."""

from functools import partial
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from ship.clip import FrozenCLIP, Precision
from ship.clip.prompts import class_prompts
from ship.clip.text_layers import UndrivableTower
from ship.clip.text_tower import SEQUENCE, InnerTokens, TextTower, by_length
from tests.ship.conftest import build_clip
from tests.ship.finetuners.by_hand import tower

TEXTS = [
    "a photo of a cat.",
    "dog",
    "a photo of the very last hot air balloon over the sea, in the evening.",
]


@pytest.fixture(scope="module", params=["pocket", "RN50:random"])
def backbone(request: pytest.FixtureRequest) -> FrozenCLIP:
    """The packaged backbone and an architecture; text and feature widths differ in both."""
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
    made = backbone.text.encode_shared(prefix, embedded[:, 5:], (eot - 4).tolist())
    expected = reference(backbone, ids).expand(2, -1, -1)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_text_and_feature_widths_are_read_from_the_model(backbone: FrozenCLIP) -> None:
    """No size is taken for granted."""
    assert backbone.feature_dim == backbone.encode_texts(["a"]).shape[1]
    widths = {"pocket": (192, 256), "RN50:random": (512, 1024)}
    assert (backbone.text_width, backbone.feature_dim) == widths[backbone.name]


def test_gradients_of_shared_prefix_equal_the_plain_path(clip64: FrozenCLIP) -> None:
    """The context's gradient is the same whether its prefix is shared or repeated."""
    ids = clip64.tokenizer(["a photo of a cat.", "a photo of a red fire truck."])
    eot = ids.argmax(1)
    embedded = clip64.text.embed(ids)
    target = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prefix = embedded[:1, :5].clone().requires_grad_()
    shared = clip64.text.encode_shared(prefix, embedded[:, 5:], (eot - 4).tolist())[0]
    (expected,) = torch.autograd.grad((shared * target).sum(), prefix)
    whole = torch.cat([prefix.expand(2, -1, -1), embedded[:, 5:]], dim=1)
    (plain,) = torch.autograd.grad((clip64.text.encode(whole, eot) * target).sum(), prefix)
    torch.testing.assert_close(plain, expected, atol=1e-10, rtol=0)


def test_gradients_equal_open_clips_own(clip64: FrozenCLIP) -> None:
    """Trimmed, in groups and with SOT computed once: each prompt's gradient is the full pass's."""
    ids = clip64.tokenizer([f"{'very ' * (i % 5)}red fire truck." for i in range(40)])
    rng = torch.Generator().manual_seed(0)
    target = torch.randn(40, 16, dtype=torch.float64, generator=rng)
    eot = ids.argmax(1)
    prompts = clip64.text.embed(ids).clone()
    prompts[:, 1:5] += torch.randn(40, 4, 24, dtype=torch.float64, generator=rng)
    features, vjp = tower(clip64, prompts.numpy(), eot.tolist())
    made = clip64.text.encode(prompts.requires_grad_(), eot)
    (gradient,) = torch.autograd.grad((made * target).sum(), prompts)
    expected = torch.from_numpy(vjp(target.numpy()))
    torch.testing.assert_close(made.detach(), torch.from_numpy(features), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient[:, 1:], expected[:, 1:], atol=1e-10, rtol=0)


def names_of(n: int) -> list[str]:
    """Names of one to seven words."""
    return [f"{'very ' * (i % 7)}red fire truck" for i in range(n)]


@pytest.mark.parametrize(("n", "n_ctx"), [(1, 4), (7, 1), (7, 12), (40, 4)])
def test_packed_names_equal_whole_prompts(clip64: FrozenCLIP, n_ctx: int, n: int) -> None:
    """Features and gradients; of whole prompts in groups, and together as on an accelerator."""
    parts = class_prompts(clip64, names_of(n), n_ctx)
    rng = torch.Generator().manual_seed(0)
    ctx = torch.randn(3, n_ctx, 24, dtype=torch.float64, generator=rng).requires_grad_()
    target = torch.randn(3, n, 16, dtype=torch.float64, generator=rng)
    prompts, eot = parts.assemble(ctx.repeat_interleave(n, 0), torch.arange(n).repeat(3))
    ways = [
        clip64.text.encode_shared(parts.prefix(ctx), parts.names, parts.host_lengths),
        clip64.text.encode(prompts, eot).reshape(3, n, -1),
        clip64.text._together(prompts, eot).reshape(3, n, -1),
    ]
    gradients = [torch.autograd.grad((x * target).sum(), ctx, retain_graph=True)[0] for x in ways]
    for features, gradient in zip(ways, gradients, strict=True):
        torch.testing.assert_close(features, ways[0], atol=1e-10, rtol=0)
        torch.testing.assert_close(gradient, gradients[0], atol=1e-8, rtol=0)


def inner_features(
    clip: FrozenCLIP,
    prompts: torch.Tensor,
    eot: torch.Tensor,
    depth: int,
    own: torch.Tensor,
    n_ctx: int,
) -> torch.Tensor:
    """By open_clip's own blocks, prompt by prompt: own tokens end the context from a depth on."""
    model, found = clip._model, []
    for prompt, end, tokens in zip(prompts, eot.tolist(), own, strict=True):
        hidden = (prompt[: end + 1] + model.positional_embedding[: end + 1]).unsqueeze(0)
        mask = model.attn_mask[: end + 1, : end + 1]
        for place, block in enumerate(model.transformer.resblocks):
            if place == depth:
                start = 1 + n_ctx - len(tokens)
                behind = hidden[:, start + len(tokens) :]
                hidden = torch.cat([hidden[:, :start], tokens.unsqueeze(0), behind], dim=1)
            hidden = block(hidden, attn_mask=mask)
        found.append(model.ln_final(hidden)[0, -1] @ model.text_projection)
    return torch.nn.functional.normalize(torch.stack(found), dim=-1)


@pytest.mark.parametrize(
    ("n", "depth", "n_ctx", "m"), [(1, 1, 4, 4), (1, 2, 1, 1), (20, 1, 12, 5), (20, 2, 4, 1)]
)
def test_inner_tokens_equal_open_clips_blocks(
    clip64: FrozenCLIP, n: int, depth: int, n_ctx: int, m: int
) -> None:
    """Features, and gradients of the contexts and of the tokens, of two replicas."""
    parts = class_prompts(clip64, names_of(n), n_ctx)
    rng = torch.Generator().manual_seed(0)
    shapes = [(2, n_ctx, 24), (2, n, m, 24)]
    leaves = [torch.randn(s, dtype=torch.float64, generator=rng).requires_grad_() for s in shapes]
    ctx, own = leaves
    target = torch.randn(2, n, 16, dtype=torch.float64, generator=rng)
    made = clip64.text.encode_shared(
        parts.prefix(ctx), parts.names, parts.host_lengths, InnerTokens(depth, own)
    )
    prompts, eot = parts.assemble(ctx.repeat_interleave(n, 0), torch.arange(n).repeat(2))
    expected = inner_features(clip64, prompts, eot, depth, own.flatten(0, 1), n_ctx)
    expected = expected.reshape(2, n, -1)
    torch.testing.assert_close(made, expected, atol=1e-10, rtol=0)
    gradients = [torch.autograd.grad((x * target).sum(), leaves) for x in (made, expected)]
    torch.testing.assert_close(*gradients, atol=1e-8, rtol=0)
    plain = clip64.text.encode_shared(parts.prefix(ctx), parts.names, parts.host_lengths)
    assert (made - plain).abs().max() > 1e-3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_inner_tokens_in_reduced_precision(clip: FrozenCLIP, precision: Precision) -> None:
    """Features in float32, and the gradients of contexts and tokens, nearly those of float32."""
    rng = torch.Generator().manual_seed(0)
    leaves = [torch.randn(s, generator=rng).requires_grad_() for s in ((2, 4, 24), (2, 9, 4, 24))]
    target = 1e-6 * torch.randn(16, generator=rng)
    found = []
    for backbone in (clip, reduced(precision)):
        parts = class_prompts(backbone, names_of(9), 4)
        features = backbone.text.encode_shared(
            parts.prefix(leaves[0]), parts.names, parts.host_lengths, InnerTokens(2, leaves[1])
        )
        assert features.dtype == torch.float32
        found.append((features, *torch.autograd.grad((features @ target).sum(), leaves)))
    for exact, nearly in zip(*found, strict=True):
        cosine = torch.nn.functional.cosine_similarity(exact.flatten(), nearly.flatten(), dim=0)
        assert cosine > 0.99


def test_counts_inner_tokens_by_block(clip: FrozenCLIP) -> None:
    """Two blocks of the packed names, then one of prompts with contexts of their own."""
    tower, parts = TextTower(clip._model), class_prompts(clip, ["cat", "dog"], 4)
    own = InnerTokens(2, torch.zeros(3, 2, 4, 24))
    tower.encode_shared(parts.prefix(torch.zeros(3, 4, 24)), parts.names, parts.host_lengths, own)
    names = sum(parts.host_lengths)
    assert tower.tokens == (2 * 3 * (5 + names) + 3 * (1 + 2 * 4 + names)) // 3


def test_classes_are_packed_behind_one_context(clip: FrozenCLIP) -> None:
    """Names share a context as far as a sequence goes, and hardly any token is padding."""
    parts = class_prompts(clip, names_of(50), 4)
    tower = TextTower(clip._model)
    ctx = torch.zeros(2, 4, 24)
    tower.encode_shared(parts.prefix(ctx), parts.names, parts.host_lengths)
    needed = sum(parts.host_lengths)
    sequences = -(-needed // (SEQUENCE - 5))
    least = 2 * (sequences * 5 + needed)
    assert least <= tower.tokens < 1.02 * least
    assert needed < 0.75 * 50 * max(parts.host_lengths)  # as many as they would be if padded


def test_counts_tokens(clip: FrozenCLIP) -> None:
    """The cost counter counts positions that went through the layers."""
    before = clip.text_tokens
    clip.encode_texts(["cat", "sea lion"])  # SOT, up to two tokens, and EOT each
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
def test_settings_of_towers_it_drives(changes: dict[str, Any]) -> None:
    """Whatever a causal tower may be set to, the features are open_clip's."""
    sizes = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
    model = torch.nn.Module()
    torch.manual_seed(0)
    model.text = open_clip.transformer.TextTransformer(**{**sizes, "output_dim": 6, **changes})
    ids = SimpleTokenizer(context_length=12)(["a photo of a cat.", "dog"])
    expected = model.text(ids)
    expected = expected[0] if changes.get("output_tokens") else expected
    tower = TextTower(model.requires_grad_(False))
    made = tower.encode(tower.embed(ids), ids.argmax(1))
    torch.testing.assert_close(made, torch.nn.functional.normalize(expected, dim=-1))


PRECISIONS = ["bf16", "fp16"]


def reduced(precision: Precision, dtype: torch.dtype = torch.float32) -> FrozenCLIP:
    """The tiny CLIP with text blocks of less precision."""
    clip = build_clip(dtype)
    return FrozenCLIP("tiny", clip._model, clip.tokenizer, precision=precision)


def shared_features(clip: FrozenCLIP, prefix: torch.Tensor) -> torch.Tensor:
    """Features of two names behind each of the prefixes."""
    ids = clip.tokenizer(["a photo of a cat.", "a photo of a red fire truck."])
    return clip.text.encode_shared(
        prefix, clip.text.embed(ids)[:, 5:], (ids.argmax(1) - 4).tolist()
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_reduced_precision_is_close(clip: FrozenCLIP, precision: Precision) -> None:
    """Features in float32, of unit norm, within 1e-2 of a cosine of 1, on both paths."""
    made = reduced(precision)
    assert made.precision == precision and clip.precision == "fp32"
    prefix = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    for features, exact in (
        (made.encode_texts(TEXTS), clip.encode_texts(TEXTS)),
        (shared_features(made, prefix), shared_features(clip, prefix)),
    ):
        assert features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:-1]))
        assert (features * exact).sum(-1).min() > 1 - 1e-2
        assert not torch.equal(features, exact)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_pass_a_tower_of_reduced_precision(
    clip: FrozenCLIP, precision: Precision
) -> None:
    """Prompts get gradients in float32, on both paths, however small the loss is."""
    target = torch.randn(16, generator=torch.Generator().manual_seed(1))

    def gradients(backbone: FrozenCLIP) -> list[torch.Tensor]:
        prefix = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
        prefix.requires_grad_()
        (shared,) = torch.autograd.grad(
            1e-6 * (shared_features(backbone, prefix) @ target).sum(), prefix
        )
        ids = backbone.tokenizer(TEXTS)
        prompts = backbone.text.embed(ids).requires_grad_()
        features = backbone.text.encode(prompts, ids.argmax(1))
        (plain,) = torch.autograd.grad(1e-6 * (features @ target).sum(), prompts)
        return [shared, plain]

    for made, exact in zip(gradients(reduced(precision)), gradients(clip), strict=True):
        assert made.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(made.flatten(), exact.flatten(), dim=0)
        assert cosine > 0.995
        torch.testing.assert_close(made.norm(), exact.norm(), rtol=0.05, atol=0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_reduced_precision_leaves_the_rest_alone(clip: FrozenCLIP, precision: Precision) -> None:
    """The same weights by their fingerprint, the same image features; only the blocks are cast."""
    made = reduced(precision)
    assert made.fingerprint == clip.fingerprint
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.encode_images(pictures), clip.encode_images(pictures))
    cast = {name for name, p in made._model.named_parameters() if p.dtype != torch.float32}
    assert cast == {name for name, _ in made._model.named_parameters() if name.startswith("transf")}


def test_full_precision_is_that_of_the_weights(clip64: FrozenCLIP) -> None:
    """fp32 casts nothing: a tower in double precision stays so; a reduced one answers in double."""
    assert clip64.encode_texts(TEXTS).dtype == torch.float64
    made = reduced("bf16", torch.float64).encode_texts(TEXTS)
    assert made.dtype == torch.float64
    assert (made * clip64.encode_texts(TEXTS)).sum(-1).min() > 1 - 1e-2
