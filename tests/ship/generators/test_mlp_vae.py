"""The VAE with an MLP decoder against a derivation by hand, in float64."""

import numpy as np
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators.mlp_vae import MlpVAEConfig, build_mlp_vae
from ship.generators.prompt_vae import PromptVAEConfig, build_prompt_vae
from tests.ship.conftest import final_task
from tests.ship.generators.by_hand import EncoderByHand, Layers, fill, unit_rows

SMALL = {"latent_dim": 6, "encoder_hidden": 20, "generator_hidden": 24}


def test_loss_and_gradients_equal_a_derivation_by_hand(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """[z, text feature] -> ReLU -> unit norm; squared error and KL, free bits included."""
    task = final_task(clip64, features, [0, 1])
    config = MlpVAEConfig(**SMALL, kl_weight=0.5, free_bits=0.2)
    vae = build_mlp_vae(config, task, clip64, [0, 1])
    rng = np.random.default_rng(1)
    fill(vae.network, rng, 0.3)
    x, noise = unit_rows(rng, 2, 5, 16), rng.standard_normal((2, 5, 6))
    ids = torch.tensor([[0, 1, 2, 3, 3], [4, 4, 0, 6, 7]])
    error, _, penalised = vae.terms(torch.from_numpy(x), ids, torch.from_numpy(noise))
    loss = error + 0.5 * penalised
    loss.sum().backward()
    texts = task.text_features.numpy()
    for replica in range(2):
        layers = Layers(vae.network, replica)
        encoder = EncoderByHand(layers)
        z = encoder.forward(x[replica], noise[replica])
        given = np.concatenate([z, texts[ids[replica].numpy()]], axis=1)
        a = layers.affine("decoder.hidden", given)
        raw = layers.affine("decoder.feature", np.maximum(a, 0))
        norm = np.linalg.norm(raw, axis=1, keepdims=True)
        made = raw / norm
        price = np.maximum(encoder.kl_by_dimension(), 0.2).sum()
        expected = ((made - x[replica]) ** 2).sum(1).mean() + 0.5 * price
        np.testing.assert_allclose(loss[replica].item(), expected, atol=1e-10, rtol=0)
        d_made = 2 * (made - x[replica]) / 5
        d_raw = (d_made - made * (made * d_made).sum(1, keepdims=True)) / norm
        d_a = layers.affine_back("decoder.feature", np.maximum(a, 0), d_raw) * (a > 0)
        d_given = layers.affine_back("decoder.hidden", given, d_a)
        encoder.backward(d_given[:, :6], 0.5, 0.2)
        layers.check(vae.network, replica, 1e-10)


def test_starts_from_the_prompt_vaes_encoder(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """A comparison of the two is one of decoders."""
    task = final_task(clip64, features, [0, 1])
    ours = build_mlp_vae(MlpVAEConfig(**SMALL), task, clip64, [0, 1]).network.encoder
    theirs = build_prompt_vae(PromptVAEConfig(**SMALL), task, clip64, [0, 1]).network.encoder
    assert ours is not None and theirs is not None
    for name, value in ours.named_parameters():
        assert torch.equal(value, theirs.get_parameter(name))
