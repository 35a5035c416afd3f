"""The WGAN against a derivation by hand, in float64: losses, gradient penalty, every gradient."""

from typing import Any

import numpy as np
import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators.losses import gradient_penalty
from ship.generators.wgan import WGAN, WGANConfig
from ship.training.replicas import BatchStream, ReplicaRng
from tests.ship.conftest import final_task
from tests.ship.generators.by_hand import (
    Array,
    Layers,
    PromptByHand,
    fill,
    tower_by_open_clip,
    unit_rows,
)

SMALL = {"latent_dim": 6, "generator_hidden": 20, "critic_hidden": 24}
IDS = torch.tensor([[0, 1, 2, 3, 3], [2, 2, 0, 1, 3]])
N = IDS.shape[1]


class CriticByHand:
    """One hidden layer of LeakyReLU(0.2) on [feature, text feature], and what it is trained on."""

    def __init__(self, layers: Layers, text: Array) -> None:
        self.layers, self.text = layers, text

    def parts(self, x: Array) -> tuple[Array, Array, Array]:
        """Input, hidden units, and their slopes."""
        given = np.concatenate([x, self.text], axis=1)
        a = self.layers.affine("hidden", given)
        slope = np.where(a > 0, 1.0, 0.2)
        return given, a * slope, slope

    def score(self, x: Array) -> Array:
        return self.layers.affine("score", self.parts(x)[1])[:, 0]

    def at_features(self, x: Array) -> Array:
        """Each score's gradient at its feature, (n, feature)."""
        slope = self.parts(x)[2]
        inner = slope * self.layers.w["score.weight"][:, 0]
        return inner @ self.layers.w["hidden.weight"][: x.shape[1]].T

    def add_score_gradient(self, x: Array, d: Array) -> None:
        """Gradients of sum(d * score)."""
        given, hidden, slope = self.parts(x)
        grad, w2 = self.layers.grad, self.layers.w["score.weight"]
        d_a = d[:, None] * slope * w2[:, 0]
        grad["hidden.weight"] += given.T @ d_a
        grad["hidden.bias"] += d_a.sum(0, keepdims=True)
        grad["score.weight"] += hidden.T @ d[:, None]
        grad["score.bias"] += d.sum()

    def add_penalty_gradient(self, x: Array, weight: float) -> float:
        """Gradients of weight * mean (||g|| - 1)^2, g the score's gradient at x; the mean."""
        slope, g = self.parts(x)[2], self.at_features(x)
        norm = np.linalg.norm(g, axis=1, keepdims=True)
        d_g = weight * 2 * (norm - 1) * g / norm / len(x)
        w1, w2 = self.layers.w["hidden.weight"], self.layers.w["score.weight"]
        feature = x.shape[1]
        # g = W1 (slope * w2), the slopes being constant almost everywhere
        self.layers.grad["hidden.weight"][:feature] += d_g.T @ (slope * w2[:, 0])
        self.layers.grad["score.weight"][:, 0] += (slope * (d_g @ w1[:feature])).sum(0)
        return float(((norm - 1) ** 2).mean())


def build(clip: FrozenCLIP, features: FeatureSet, config: WGANConfig) -> WGAN:
    """A WGAN of two replicas with weights that make every term matter."""
    wgan = WGAN(config, final_task(clip, features, [0, 1]), clip, [0, 1])
    rng = np.random.default_rng(2)
    fill(wgan.critic, rng, 0.4)
    fill(wgan.generator, rng, 0.2)
    return wgan


def test_critic_equals_a_derivation_by_hand(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Wasserstein estimate, gradient penalty, and the gradients of the critic's loss."""
    config = WGANConfig(**SMALL, gp_weight=3.0)
    wgan = build(clip64, features, config)
    rng = np.random.default_rng(3)
    real, made = unit_rows(rng, 2, N, 16), unit_rows(rng, 2, N, 16)
    mix = rng.random((2, N))
    estimate, penalty = wgan.critic_terms(
        *map(torch.from_numpy, (real, made)), IDS, torch.from_numpy(mix)
    )
    (3.0 * penalty - estimate).sum().backward()
    texts = wgan._task.text_features.numpy()
    for r in range(2):
        layers = Layers(wgan.critic, r)
        layers.grad = {name: np.zeros_like(value) for name, value in layers.w.items()}
        critic = CriticByHand(layers, texts[IDS[r].numpy()])
        expected = critic.score(real[r]).mean() - critic.score(made[r]).mean()
        critic.add_score_gradient(real[r], np.full(N, -1 / N))
        critic.add_score_gradient(made[r], np.full(N, 1 / N))
        between = mix[r][:, None] * real[r] + (1 - mix[r][:, None]) * made[r]
        expected_penalty = critic.add_penalty_gradient(between, 3.0)
        assert estimate[r].item() == pytest.approx(expected, abs=1e-10)
        assert penalty[r].item() == pytest.approx(expected_penalty, abs=1e-10)
        layers.check(wgan.critic, r, 1e-10)


def test_derivation_by_hand_agrees_with_finite_differences(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """The critic's gradient at features, and the penalty's at weights, by central differences."""
    wgan = build(clip64, features, WGANConfig(**SMALL))
    layers = Layers(wgan.critic, 0)
    layers.grad = {name: np.zeros_like(value) for name, value in layers.w.items()}
    critic = CriticByHand(layers, wgan._task.text_features.numpy()[IDS[0].numpy()])
    x = unit_rows(np.random.default_rng(4), N, 16)
    h = 1e-6
    moved = np.stack(
        [(critic.score(x + h * e) - critic.score(x - h * e)) / (2 * h) for e in np.eye(16)], axis=1
    )
    np.testing.assert_allclose(critic.at_features(x), moved, atol=1e-8)
    critic.add_penalty_gradient(x, 1.0)
    for name in ("hidden.weight", "score.weight"):
        value = layers.w[name]
        for place in [(0, 0), (3, value.shape[1] - 1), (value.shape[0] - 1, 0)]:
            ends = []
            kept = value[place]
            for step in (h, -h):
                value[place] = kept + step
                g = critic.at_features(x)
                ends.append(((np.linalg.norm(g, axis=1) - 1) ** 2).mean())
            value[place] = kept
            slope = (ends[0] - ends[1]) / (2 * h)
            np.testing.assert_allclose(layers.grad[name][place], slope, atol=1e-7)


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("prompt", ["instance_bias", "instance_tokens"])
def test_generator_equals_a_derivation_by_hand(
    prompt: Any, weight: float, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """-E[D(G(z))], cross-entropy over the seen half, and the gradients through tower and prompt."""
    config = WGANConfig(**SMALL, prompt=prompt, n_ctx=3, classification_weight=weight)
    wgan = build(clip64, features, config)
    z = np.random.default_rng(5).standard_normal((2, N, 6))
    loss = wgan.generator_loss(torch.from_numpy(z), IDS)
    loss.sum().backward()
    texts = wgan._task.text_features.numpy()
    for r in range(2):
        critic = CriticByHand(Layers(wgan.critic, r), texts[IDS[r].numpy()])
        layers = Layers(wgan.generator, r)
        by_hand = PromptByHand(layers, "", prompt == "instance_tokens")
        made, tower_back = tower_by_open_clip(clip64, by_hand.forward(z[r]), IDS[r].tolist())
        logits = clip64.logit_scale * made @ texts[:4].T
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        truth = np.eye(4)[IDS[r].numpy()]
        expected = -critic.score(made).mean() - weight * np.log((p * truth).sum(1)).mean()
        assert loss[r].item() == pytest.approx(expected, abs=1e-10)
        d_made = -critic.at_features(made) + weight * clip64.logit_scale * (p - truth) @ texts[:4]
        by_hand.backward(tower_back(d_made / N))
        layers.check(wgan.generator, r, 1e-10)


def test_penalty_of_a_critic_of_known_slope() -> None:
    """A linear critic of slope 3 costs (3 - 1)^2 wherever interpolates lie; of slope 1, 0."""
    real, made = torch.randn(2, 7, 5), torch.randn(2, 7, 5)
    slopes = torch.tensor([3.0, 1.0])[:, None]
    found = gradient_penalty(lambda x: slopes * x[:, :, 0], real, made, torch.rand(2, 7))
    torch.testing.assert_close(found, torch.tensor([4.0, 0.0]))


def test_interpolates_are_between_each_pair() -> None:
    """mix 1 asks for the slope at the real feature, mix 0 at the made one."""
    real, made = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 0.5)
    for mix, at in ((1.0, 2.0), (0.0, 0.5), (0.5, 1.25)):
        # the slope of x^2 / 2 is x
        found = gradient_penalty(
            lambda x: x[:, :, 0].square() / 2, real, made, torch.full((1, 1), mix)
        )
        assert found.item() == pytest.approx((at - 1) ** 2)


def test_critic_and_generator_are_trained_in_turn(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """An epoch has as many generator steps as one pass, n_critic critic steps before each."""
    config = WGANConfig(**SMALL, n_critic=3, batch_size=3)
    wgan = WGAN(config, final_task(clip64, features, [0, 1]), clip64, [0, 1])
    wgan.train_epoch()
    steps = {
        name: int(next(iter(optimizer._inner.state.values()))["step"])
        for name, optimizer in (("critic", wgan._critic_step), ("generator", wgan._generator_step))
    }
    assert steps == {"critic": 9, "generator": 3}  # 8 pictures in batches of 3


def test_an_epoch_is_algorithm_1(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Replayed step by step with streams and optimizers of the test's own: the same weights."""
    config = WGANConfig(**SMALL, n_critic=2, batch_size=5, lr=0.01)
    task = final_task(clip64, features, [0, 1])
    wgan, twin = (WGAN(config, task, clip64, [0, 1]) for _ in range(2))
    metrics = wgan.train_epoch()
    batches = BatchStream(task.counts, ReplicaRng([0, 1], "wgan/batches"))
    views, mixes = ReplicaRng([0, 1], "wgan/views"), ReplicaRng([0, 1], "wgan/mix")
    noise = ReplicaRng([0, 1], "wgan/noise", dtype=torch.float64)
    critic_step = torch.optim.Adam(twin.critic.parameters(), lr=0.01, betas=(0.5, 0.9))
    generator_step = torch.optim.Adam(twin.generator.parameters(), lr=0.01, betas=(0.5, 0.9))
    found = []
    for _ in range(2):  # 8 pictures in batches of 5
        for _ in range(2):
            real, ids = task.batch(batches.next(5), views)
            made = twin.generator(noise.normal(5, 6), ids).detach()
            mix = mixes.integers(2**24, 5).double() / 2**24
            estimate, penalty = twin.critic_terms(real, made, ids, mix)
            found.append(estimate.detach())
            critic_step.zero_grad()
            (10 * penalty - estimate).sum().backward()
            critic_step.step()
        generator_step.zero_grad()
        twin.generator_loss(noise.normal(5, 6), ids).sum().backward()
        generator_step.step()
    torch.testing.assert_close(metrics["wasserstein"], torch.stack(found).mean(0))
    for ours, theirs in ((wgan.critic, twin.critic), (wgan.generator, twin.generator)):
        for value, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(value, other, atol=1e-12, rtol=0)


def test_critic_learns_to_tell_real_from_made(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """After many critic steps the estimate is positive, the slope near 1, in every replica."""
    task = final_task(clip64, features, [0, 1], shots=6)
    config = WGANConfig(**SMALL, n_critic=60, lr=1e-2)
    wgan = WGAN(config, task, clip64, [0, 1])
    early, later = wgan.train_epoch(), wgan.train_epoch()
    assert bool((later["wasserstein"] > 0.05).all())
    assert bool((later["gradient_penalty"] < 0.2 * early["gradient_penalty"]).all())
    expected = 10 * later["gradient_penalty"] - later["wasserstein"]
    torch.testing.assert_close(later["critic_loss"], expected)


def test_generator_learns_to_please_the_critic(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Under a critic that hardly moves, the generator's loss falls in every replica."""
    wgan = build(clip64, features, WGANConfig(**SMALL, n_critic=1, gp_weight=0.0, lr=1e-3))
    for group in wgan._critic_step._inner.param_groups:
        group["lr"] = 0.0
    losses = [wgan.train_epoch()["generator_loss"] for _ in range(30)]
    assert bool((torch.stack(losses[-5:]).mean(0) < torch.stack(losses[:5]).mean(0)).all())
