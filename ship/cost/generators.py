"""The cost of every generator: an epoch of fitting, and sampling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ship.configs import KnnGaussianConfig, MlpVAEConfig, PromptVAEConfig, WGANConfig
from ship.cost.model import FLOAT_BYTES, Cost, Memory, product, split
from ship.cost.shapes import TowerShape
from ship.cost.tasks import TaskShape
from ship.cost.text import counted, drawn_pass, plain_pass
from ship.generators.prompt_network import FIXED_WORDS, PROMPTS_AT_ONCE, encodes, uses_z
from ship.training import steps_per_epoch

# AdamW and Adam keep two moments beside a weight and its gradient.
TRAINED = 4


@dataclass(frozen=True)
class Asked:
    """Features that are asked of a generator, for each replica.

    n: how many. shares: of each class, in all of them.
    drawn: whether their classes are drawn at random; else each has exactly its share.
    """

    n: int
    shares: Sequence[float]
    drawn: bool


def _nothing(asked: Asked) -> Cost:
    return Cost()


@dataclass(frozen=True)
class GeneratorCost:
    """A fused generator.

    epochs: as planned. epoch: one of them.
    once: before them.
    sample: what sampling takes, without gradients.
    """

    epochs: int = 0
    epoch: Cost = field(default_factory=Cost)
    once: Cost = field(default_factory=Cost)
    sample: Callable[[Asked], Cost] = _nothing


# the generator's settings, its task, the tower, the replicas; None: no synthetic features at all
GeneratorModel = Callable[[Any, TaskShape, TowerShape, int], GeneratorCost | None]


@dataclass(frozen=True)
class _Prompts:
    """PromptGenerator: z to contexts by an MLP, through the text tower.

    inputs: gradients that z's layer gives: 2 where z comes from an encoder, 1 of its weights alone.
    """

    config: PromptVAEConfig | WGANConfig
    task: TaskShape
    tower: TowerShape
    replicas: int
    inputs: int

    @property
    def n_ctx(self) -> int:
        """Context vectors."""
        config = self.config
        if config.prompt != "fixed":
            return config.n_ctx
        return self.tower.count(config.ctx_init or FIXED_WORDS)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Of z, hidden units and what they make; zeros where the prompt has no z."""
        config = self.config
        if not uses_z(config.prompt):
            return 0, 0, 0
        vectors = self.n_ctx if config.prompt == "instance_tokens" else 1
        return config.latent_dim, config.generator_hidden, vectors * self.tower.width

    @property
    def weights(self) -> int:
        """Trained numbers of a replica."""
        z, hidden, out = self.sizes
        return (z + 1) * hidden + (hidden + 1) * out + self.n_ctx * self.tower.width

    def __call__(self, asked: Asked, gradient: bool) -> Cost:
        """The features asked for; without gradients a bounded number at once."""
        z, hidden, out = self.sizes
        rows = self.replicas * asked.n
        flops = product(rows, z, hidden, self.inputs * gradient)
        flops += product(rows, hidden, out, 2 * gradient)
        name_lengths = self.tower.name_lengths(
            self.task.names, self.n_ctx, self.config.name_position
        )
        lengths = [self.n_ctx + length for length in name_lengths]
        at_once = max(1, PROMPTS_AT_ONCE // self.replicas)
        parts = [asked.n] if gradient else split(asked.n, at_once)
        text = Cost()
        for part in parts:
            text += self._pass(asked, part, lengths, gradient)
        return text + Cost(network_flops=flops)

    def _pass(self, asked: Asked, n: int, lengths: Sequence[int], gradient: bool) -> Cost:
        tower, total = self.tower, sum(asked.shares)
        if asked.drawn:
            rows = self.replicas * n
            return drawn_pass(tower, rows, lengths, asked.shares, gradient, self.replicas)
        prompts: dict[int, float] = {}
        for length, share in zip(lengths, asked.shares, strict=True):
            prompts |= counted([length], prompts.get(length, 0) + self.replicas * n * share / total)
        return plain_pass(tower, prompts, gradient, self.replicas)


def _trained(task: TaskShape, tower: TowerShape, weights: float) -> Memory:
    """What a replica holds while it is fitted: its weights four times, and its pictures."""
    pictures = task.n_real * task.views * tower.feature_dim
    return Memory(per_replica=FLOAT_BYTES * (TRAINED * weights + pictures))


def _vae(
    config: PromptVAEConfig | MlpVAEConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    decode: Callable[[Asked, bool], Cost],
    weights: float,
    latent: bool,
) -> GeneratorCost:
    """ship.generators.vae.VAE around a decoder.

    Args:
        decode: the features asked for, with gradients or without.
        weights: the decoder's.
        latent: whether there is an encoder.
    """
    f, hidden, z = tower.feature_dim, config.encoder_hidden, config.latent_dim
    batch = min(config.batch_size, task.n_nominal)
    steps = steps_per_epoch(task.n_nominal, batch)

    def encode(n: float, gradient: bool) -> Cost:
        if not latent:
            return Cost()
        rows = replicas * n
        flops = product(rows, f, hidden, 1 * gradient) + 2 * product(rows, hidden, z, 2 * gradient)
        return Cost(network_flops=flops)

    step = decode(Asked(batch, task.real, drawn=True), True) + encode(batch, True)
    encoder = (f + 1) * hidden + 2 * (hidden + 1) * z if latent else 0
    epoch = step.times(steps) + encode(task.n_real, False)
    if config.early_stopping is not None:
        n = sum(task.held_out)
        epoch += decode(Asked(batch, task.held_out, drawn=True), False).times(n / batch)
        epoch += encode(n, False)
    return GeneratorCost(
        epochs=config.epochs,
        epoch=epoch.beside(_trained(task, tower, encoder + weights)),
        sample=lambda asked: decode(asked, False),
    )


def prompt_vae(
    config: PromptVAEConfig, task: TaskShape, tower: TowerShape, replicas: int
) -> GeneratorCost:
    """SHIP's generator."""
    latent = encodes(config.prompt)
    prompts = _Prompts(config, task, tower, replicas, inputs=2 if latent else 1)
    if config.prompt == "fixed":  # nothing is trained
        return GeneratorCost(sample=lambda asked: prompts(asked, False))
    return _vae(config, task, tower, replicas, prompts, prompts.weights, latent)


def mlp_vae(
    config: MlpVAEConfig, task: TaskShape, tower: TowerShape, replicas: int
) -> GeneratorCost:
    """The VAE with an MLP as decoder."""
    f, z, hidden = tower.feature_dim, config.latent_dim, config.generator_hidden

    def decode(asked: Asked, gradient: bool) -> Cost:
        rows = replicas * asked.n
        flops = product(rows, z + f, hidden, 2 * gradient) + product(rows, hidden, f, 2 * gradient)
        return Cost(network_flops=flops)

    weights = (z + f + 1) * hidden + (hidden + 1) * f
    return _vae(config, task, tower, replicas, decode, weights, latent=True)


def wgan(config: WGANConfig, task: TaskShape, tower: TowerShape, replicas: int) -> GeneratorCost:
    """WGAN-GP: n_critic critic steps before each generator step."""
    f, hidden = tower.feature_dim, config.critic_hidden
    prompts = _Prompts(config, task, tower, replicas, inputs=1)
    batch = min(config.batch_size, task.n_nominal)
    asked, rows = Asked(batch, task.real, drawn=True), replicas * batch

    def critic(inner: int, outer: int) -> float:
        return product(rows, 2 * f, hidden, inner) + product(rows, hidden, 1, outer)

    # real and made; then the penalty: forward, its input's slope, and twice the two backward
    critics = prompts(asked, False) + Cost(network_flops=2 * critic(1, 2) + critic(5, 5))
    generator = prompts(asked, True) + Cost(network_flops=critic(2, 2))
    if config.classification_weight:
        generator += Cost(network_flops=product(rows, f, len(task.names), 1))
    epoch = (critics.times(config.n_critic) + generator).times(
        steps_per_epoch(task.n_nominal, batch)
    )
    weights = prompts.weights + (2 * f + 1) * hidden + hidden + 1
    return GeneratorCost(
        config.epochs,
        epoch.beside(_trained(task, tower, weights)),
        sample=lambda asked: prompts(asked, False),
    )


def gaussian_base(config: Any, task: TaskShape, tower: TowerShape, replicas: int) -> GeneratorCost:
    """A covariance a replica, and noise through its factor."""
    f = tower.feature_dim
    fitted = 2 * product(f, task.n_real, f)  # Ledoit-Wolf's and the shrunk one
    return GeneratorCost(
        once=Cost(network_flops=replicas * fitted, memory=Memory(per_replica=FLOAT_BYTES * f * f)),
        sample=lambda asked: Cost(network_flops=product(replicas * asked.n, f, f)),
    )


def neighbours(
    task: TaskShape, f: int, k: int, classes: int, replicas: int, more_means: int = 0
) -> Cost:
    """The means and the precision of classes from their k nearest views (neighbour_precision).

    Args:
        classes: whose precision it is, and whose means.
        more_means: further classes that have a mean alone.
    """
    views = task.n_real * task.views
    near = min(k, views)
    found = product(2 * classes + more_means, f, views)
    solved = product(classes * near, f, near) + product(f, classes * near, f)
    held = Memory(fixed=2 * FLOAT_BYTES * (views + 3 * min(128, classes) * near) * f)
    return Cost(network_flops=replicas * (found + solved), memory=held)


def knn_gaussian(
    config: KnnGaussianConfig, task: TaskShape, tower: TowerShape, replicas: int
) -> GeneratorCost:
    """Nearest views, a precision a replica, and noise through its factor."""
    f, n_cls = tower.feature_dim, len(task.names)
    classes = task.n_new or n_cls
    once = neighbours(task, f, config.neighbours, classes, replicas, n_cls - classes)
    return GeneratorCost(
        once=once.beside(Memory(per_replica=FLOAT_BYTES * f * (f + n_cls))),
        sample=lambda asked: Cost(network_flops=product(replicas * asked.n, f, f)),
    )


def without_products(
    config: Any, task: TaskShape, tower: TowerShape, replicas: int
) -> GeneratorCost:
    """Text features with noise, or real pictures: nothing that counts."""
    return GeneratorCost()


def nothing(config: Any, task: TaskShape, tower: TowerShape, replicas: int) -> None:
    """No generator."""
    return


GENERATOR_COSTS: Mapping[str, GeneratorModel] = {
    "vae": prompt_vae,
    "wgan": wgan,
    "mlp_vae": mlp_vae,
    "gaussian_text": without_products,
    "gaussian_base": gaussian_base,
    "knn_gaussian": knn_gaussian,
    "real": without_products,
    "none": nothing,
}
