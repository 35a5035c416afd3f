"""SHIP's VAE against a derivation of its own, in float64, by hand and with no torch autograd.

The parity test uses the reference code's sizes (features, text width and z 512, hidden 2048 and
4096, 4 contexts); the text tower, which is CLIP's and tested elsewhere, has one layer.
"""

from typing import Any

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators.prompt_vae import PromptVAEConfig, build_prompt_vae
from ship.generators.vae import VAE
from ship.training.replicas import ReplicaRng
from tests.ship.conftest import WORDS, build_clip, build_features, final_task
from tests.ship.generators.by_hand import (
    Array,
    EncoderByHand,
    Layers,
    PromptByHand,
    fill,
    tower_by_open_clip,
    unit_rows,
)

SMALL: dict[str, Any] = {"latent_dim": 8, "encoder_hidden": 32, "generator_hidden": 32}
FROM = {"atol": 1e-12, "rtol": 0}


def compare_with_hand(vae: VAE, clip: FrozenCLIP, feature: int, atol: float) -> Array:
    """Loss and every gradient of two replicas on five features each; each dimension's KL."""
    found = []
    config = vae.config
    assert isinstance(config, PromptVAEConfig)
    rng = np.random.default_rng(0)
    fill(vae.network, rng, 0.03 if feature > 100 else 0.2)
    x = unit_rows(rng, 2, 5, feature)
    noise = rng.standard_normal((2, 5, config.latent_dim))
    ids = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 6, 7]])
    error, kl, penalised = vae.terms(torch.from_numpy(x), ids, torch.from_numpy(noise))
    loss = error + config.kl_weight * penalised
    loss.sum().backward()
    for replica in range(2):
        layers = Layers(vae.network, replica)
        encoder = EncoderByHand(layers)
        prompt = PromptByHand(layers, "decoder.", config.prompt == "instance_tokens")
        ctx = prompt.forward(encoder.forward(x[replica], noise[replica]))
        made, tower_back = tower_by_open_clip(clip, ctx, ids[replica].tolist())
        by_dimension = encoder.kl_by_dimension()
        price = np.maximum(by_dimension, config.free_bits).sum()
        expected = ((made - x[replica]) ** 2).sum() / 5 + config.kl_weight * price
        assert abs(loss[replica].item() - expected) < atol
        assert kl[replica].item() == pytest.approx(by_dimension.sum(), rel=1e-12)
        d_ctx = tower_back(2 * (made - x[replica]) / 5)
        encoder.backward(prompt.backward(d_ctx), config.kl_weight, config.free_bits)
        layers.check(vae.network, replica, atol)
        found.append(by_dimension)
    return np.stack(found)


def test_loss_and_gradients_equal_a_derivation_by_hand() -> None:
    """For given weights, features and noise at the reference's sizes, to 1e-8."""
    clip = build_clip(torch.float64, feature=512, width=512, layers=1)
    config = PromptVAEConfig()  # kl_weight 1, 4 contexts, z 512, hidden 2048 and 4096
    vae = build_prompt_vae(config, final_task(clip, build_features(clip), [0, 1]), clip, [0, 1])
    compare_with_hand(vae, clip, 512, 1e-8)


@pytest.mark.parametrize("prompt", ["instance_bias", "instance_tokens"])
@pytest.mark.parametrize(("kl_weight", "free_bits"), [(1.0, 0.0), (0.01, 0.0), (0.7, 0.3)])
def test_variants_equal_a_derivation_by_hand(
    prompt: Any, kl_weight: float, free_bits: float, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """One vector a context, and free bits that some dimensions exceed and others do not."""
    config = PromptVAEConfig(
        **SMALL,
        prompt=prompt,
        n_ctx=3,
        ctx_init="a photo",
        kl_weight=kl_weight,
        free_bits=free_bits,
    )
    vae = build_prompt_vae(config, final_task(clip64, features, [0, 1]), clip64, [0, 1])
    kl = compare_with_hand(vae, clip64, 16, 1e-10)
    if free_bits:
        assert (kl < free_bits).any() and (kl > free_bits).any()


def test_instance_tokens_move_each_context_by_its_own_vector(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """An instance bias moves all alike."""
    task = final_task(clip64, features, [0])
    z = torch.randn(1, 2, 8, dtype=torch.float64)
    for prompt, alike in (("instance_bias", True), ("instance_tokens", False)):
        config = PromptVAEConfig(**SMALL, prompt=prompt)
        decoder: Any = build_prompt_vae(config, task, clip64, [0]).network.decoder
        moved = decoder.contexts(z, 2) - decoder.ctx.unsqueeze(1)
        assert torch.allclose(moved[:, :, :1].expand_as(moved), moved) == alike


def test_global_prompt_is_trained_without_a_posterior(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Contexts alone, by squared error alone; a class has one feature, whatever the noise."""
    task = final_task(clip64, features, [0, 1])
    config = PromptVAEConfig(prompt="global", lr=0.02, epochs=10)
    vae = build_prompt_vae(config, task, clip64, [0, 1])
    assert [name for name, _ in vae.network.named_parameters()] == ["decoder.ctx"]
    losses = [vae.train_epoch() for _ in range(10)]
    assert losses[0].keys() == {"loss", "reconstruction"}
    assert torch.equal(losses[0]["loss"], losses[0]["reconstruction"])
    assert bool((losses[-1]["loss"] < 0.95 * losses[0]["loss"]).all())
    made = vae.sample(torch.tensor([[7, 5, 7]] * 2), ReplicaRng([0, 1], "a", dtype=torch.float64))
    torch.testing.assert_close(made[:, 0], made[:, 2], **FROM)
    assert not torch.allclose(made[:, 0], made[:, 1])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "a photo of a {}."),
        ({"n_ctx": 16}, "a photo of a {}."),
        ({"name_position": "front"}, "{} a photo of a."),
        ({"name_position": "middle"}, "a photo {} of a."),
        ({"ctx_init": "a drawing of one"}, "a drawing of one {}."),
    ],
)
def test_fixed_prompt_is_the_words(
    settings: dict[str, Any], sentence: str, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Nothing to fit; samples are CLIP's own features of the sentence, as long as its words."""
    task = final_task(clip64, features, [0, 1])
    vae = build_prompt_vae(PromptVAEConfig(prompt="fixed", **settings), task, clip64, [0, 1])
    assert vae.epochs == 0 and vae.finished and vae.train_epoch() == {}
    ids = torch.tensor([[6, 4, 6], [5, 7, 4]])
    made = vae.sample(ids, ReplicaRng([0, 1], "noise"))
    expected = clip64.encode_texts([sentence.format(name) for name in WORDS])
    torch.testing.assert_close(made, expected[ids], **FROM)


def test_n_ctx_beyond_the_context_is_refused(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """The message has the largest n_ctx that fits."""
    task = final_task(clip64, features, [0])
    with pytest.raises(ValueError, match="n_ctx must be at most 21"):
        build_prompt_vae(PromptVAEConfig(n_ctx=22), task, clip64, [0])


def test_without_contexts_the_bias_moves_the_name_alone(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """[SOT] (name + r) . [EOT]: the tokens of the name, and neither the "." nor EOT."""
    task = final_task(clip64, features, [0, 1])
    vae = build_prompt_vae(PromptVAEConfig(n_ctx=0, **SMALL), task, clip64, [0, 1])
    decoder = vae.network.decoder
    z = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 4, 7], [5, 5, 2]])
    made = decoder(z, ids)
    for replica in range(2):
        expand, bias = (
            (layer.weight[replica], layer.bias[replica]) for layer in (decoder.expand, decoder.bias)
        )
        moved = torch.relu(z[replica] @ expand[0] + expand[1]) @ bias[0] + bias[1]
        for row, label in enumerate(ids[replica].tolist()):
            name = task.class_names[label]
            tokens = clip64.tokenizer.encode(f"{name}.")
            n_name = len(clip64.tokenizer.encode(name))
            ends = (clip64.tokenizer.sot_token_id, clip64.tokenizer.eot_token_id)
            prompt = clip64.text.embed(torch.tensor([ends[0], *tokens, ends[1]])).clone()
            prompt[1 : 1 + n_name] += moved[row]
            alone = clip64.text.encode(prompt.unsqueeze(0), torch.tensor([len(tokens) + 1]))
            torch.testing.assert_close(made[replica, row], alone[0])
    before = [value.clone() for value in decoder.bias.parameters()]
    vae.train_epoch()
    assert not all(map(torch.equal, before, decoder.bias.parameters()))


@pytest.mark.parametrize("prompt", ["instance_tokens", "global"])
def test_a_prompt_without_contexts_must_have_something_to_carry(prompt: str) -> None:
    """One vector a context, or the contexts alone, are nothing without contexts."""
    with pytest.raises(ValueError, match=f"n_ctx must be at least 1 when prompt is {prompt}"):
        PromptVAEConfig.model_validate({"prompt": prompt, "n_ctx": 0})


def test_noise_in_place_of_the_code_by_hand(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Squared error and gradients where z is noise; there is no posterior, and no KL."""
    config = PromptVAEConfig(**SMALL, prompt="noise", n_ctx=3)
    vae = build_prompt_vae(config, final_task(clip64, features, [0, 1]), clip64, [0, 1])
    rng = np.random.default_rng(0)
    fill(vae.network, rng, 0.2)
    x, noise = unit_rows(rng, 2, 5, 16), rng.standard_normal((2, 5, config.latent_dim))
    ids = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 6, 7]])
    error, kl, penalised = vae.terms(torch.from_numpy(x), ids, torch.from_numpy(noise))
    assert bool((kl == 0).all()) and bool((penalised == 0).all())
    error.sum().backward()
    for replica in range(2):
        layers = Layers(vae.network, replica)
        prompt = PromptByHand(layers, "decoder.", False)
        made, tower_back = tower_by_open_clip(
            clip64, prompt.forward(noise[replica]), ids[replica].tolist()
        )
        assert error[replica].item() == pytest.approx(((made - x[replica]) ** 2).sum() / 5)
        prompt.backward(tower_back(2 * (made - x[replica]) / 5))
        layers.check(vae.network, replica, 1e-10)
    metrics = vae.train_epoch()
    assert metrics.keys() == {"loss", "reconstruction"}
