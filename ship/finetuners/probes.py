"""Linear probes on image features: logistic regression, ZS-LP, CLAP, and LP++.

Logistic regression is CLIP's own probe (arXiv:2103.00020, sec. 3.2): logits = logit_scale * x W^T +
b. By default it starts at W = text features, b = 0 (as in WiSE-FT, arXiv:2109.01903). Classes
without features, real or synthetic, are not in the loss and keep their initial weights.

ZS-LP and CLAP classify by cosines: logits = logit_scale * x w^T / |w|. The weights w_c start at the
text features. Source: Silva-Rodriguez et al., arXiv:2312.12730 (ZS-LP in sec. 3, CLAP in sec.
4) and their code (github.com/jusiro/CLAP, trainers/adapters.py, constraint "l2"): SGD with momentum
0.9, learning rate 0.1, cosine to 0, 300 epochs in batches of 256; nothing is chosen on validation
images.

CLAP's loss adds `penalty_weight` times the mean over classes of lambda_c |w_c - w0_c|^2, where w0_c
is the start. lambda_c is the mean probability that zero-shot CLIP assigns to class c on the class's
own training images, so classes with a good text feature stay close to it. The multipliers lambda_c
stay constant during training, as in the authors' results.

The effect of a learning rate and of a penalty on a cosine depends on the norm of the weights. The
authors start from unnormalized text features; here w0_c is `init_norm` times the unit-norm text
feature. The authors' warm-up epoch is omitted. Additions: classes without real or synthetic
features are not part of the loss or the penalty; a class with only synthetic features has the mean
of the other classes' lambda_c.

Unlike these two, logistic regression does not normalize its weights, so all logits of a class can
grow. It has a bias per class and is trained with AdamW. All three use `synthetic.ratio`,
`.resample` and `.loss_weight`, like all fine-tuners that train in steps.

LP++ adds the text features to the weights of a linear probe, with a trained multiplier per class:
logits_k = x^T (w_k + alpha_k t_k), without CLIP's logit_scale. Source: Huang, Shakeri et al.,
arXiv:2404.02285, and their code (github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline,
methods/linear_probe_p2.py), which is followed where it is more specific than the paper:

- w_k starts at the sum of the class's features. alpha starts at `alpha_scale` times the cosine
  between an image and the text feature of its class, averaged over each class and then over the
  classes, so it is the same for all classes.
- Each epoch is one step of full-batch gradient descent, with momentum 0.9 and the learning rate
  4 / lambda_max(mean of x x^T) for w. Every tenth step also updates alpha, without momentum, with
  the rate 1 / (4 max_k mean of (x^T t_k)^2). Both rates follow from bounds of the loss's curvature
  (with the factors 4 and 1/4 of the code), so no learning rate has to be chosen. `lr_scale` scales
  both.

Differences from the code:

- The code has a bias, which starts at random values. It is omitted here, as in the paper.
- The code selects the last of the best epochs on `shots` validation images per class. Here the
  configured `selection` applies.
- The code never resets alpha's gradient, so an update of alpha follows the sum of all gradients so
  far. Here it follows the current gradient.
- All views of an image are rows, which share the weight of the image.
- Classes without features keep their initial w = 0, so their logit is alpha * x^T t.

LP++ uses `synthetic.per_class` and `.loss_weight`: synthetic features are drawn once, whatever
`synthetic.resample` is, and each counts as `loss_weight` images in the loss, the start and the
rates. `synthetic.ratio` has no effect.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CLAPConfig, LinearProbeConfig, LPPlusPlusConfig, ProbeSettings
from ship.methods import Choice, Draw, Features, Finetuner, Labels, Logits, SeedTask, Weights

MOMENTUM = 0.9


class LinearProbe(Finetuner):
    """Logistic regression, trained by AdamW.

    There is no weight decay, because it would move classes without data away from their start.

    Attributes:
        weight: W, (n_cls, feature).
        bias: b, (n_cls,).
    """

    stream = "linear_probe"

    def __init__(
        self, config: LinearProbeConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self._start = self.text if config.init == "zero_shot" else torch.zeros_like(self.text)
        self.weight = nn.Parameter(self._start.clone())
        self.bias = nn.Parameter(torch.zeros_like(self.text[:, 0]))

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the weighted mean cross-entropy + l2 / 2 * |W - W_0|^2 (b is not penalized)."""
        distance = (self.weight - self._start).square().sum()
        l2: float = self.config.l2
        return super().loss(features, labels, weights) + l2 / 2 * distance

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * x W^T + b."""
        return self.logit_scale * (images @ self.weight.T) + self.bias


class ZSLP(Finetuner):
    """A linear probe that classifies by cosines, without a penalty.

    Attributes:
        weight: Unnormalized weights, (n_cls, feature).
    """

    stream = "zs_lp"  # also CLAP's, so that both methods train on the same batches

    def __init__(self, config: ProbeSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self._start = config.init_norm * self.text
        self.weight = nn.Parameter(self._start.clone())

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return SGD with the authors' momentum."""
        return torch.optim.SGD, {"lr": self.config.lr, "momentum": MOMENTUM}

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine to the weights."""
        return self.logit_scale * images @ F.normalize(self.weight, dim=-1).T


class CLAP(ZSLP):
    """ZS-LP with a penalty on the distance to the text features, larger for good text features.

    Attributes:
        multipliers: lambda_c, (n_cls,). 0 for classes that are not in the loss.
    """

    multipliers: Tensor

    def __init__(self, config: CLAPConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        confidence = compute_zero_shot_confidence(task, self.class_mask)
        self.register_buffer("multipliers", confidence, persistent=False)

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the cross-entropy + penalty_weight * mean over c of lambda_c |w_c - w0_c|^2."""
        distance = (self.weight - self._start).square().sum(-1)
        n = len(distance) if self.class_mask is None else self.class_mask.sum()
        penalty: Tensor = (self.multipliers * distance).sum() / n
        weight: float = self.config.penalty_weight
        return super().loss(features, labels, weights) + weight * penalty


def compute_zero_shot_confidence(
    task: SeedTask, class_mask: Bool[Tensor, " n_cls"] | None
) -> Float[Tensor, " n_cls"]:
    """Return each class's mean zero-shot probability over its training images, in all views.

    Args:
        task: Task with the training images.
        class_mask: Mask of the classes in the softmax. Other classes get 0. None means all classes,
            and classes without images then get the mean of the others.
    """
    sums, numbers = task.features.new_zeros(2, len(task.class_names))
    for view in task.features.unbind(1):
        logits = task.logit_scale * view @ task.text_features.T
        if class_mask is not None:
            logits = logits.masked_fill(~class_mask, -torch.inf)
        confidence = logits.softmax(-1).gather(1, task.labels.unsqueeze(1)).squeeze(1)
        sums = sums.scatter_add(0, task.labels, confidence)
        numbers = numbers.scatter_add(0, task.labels, torch.ones_like(confidence))
    means: Tensor = sums / numbers.clamp_min(1)
    if class_mask is not None:
        return means
    return torch.where(numbers > 0, means, means.sum() / (numbers > 0).sum())


# Number of steps of w per update of alpha.
ALPHA_EVERY = 10


class LPPlusPlus(Finetuner):
    """LP++: a linear probe plus the text features times a trained multiplier per class.

    Attributes:
        weight: w, (n_cls, feature).
        alpha: Multiplier of each class's text feature, (n_cls,).
        features: Training features, one row per view.
        labels: Label of each row.
        shares: Loss weight of each row: that of its image, divided by the number of views.
        weight_rate: Learning rate of w.
        alpha_rate: Learning rate of alpha.
        velocity: Momentum buffer of w, as in torch.optim.SGD.
        done: Number of finished steps.
    """

    training_data = "custom"
    stateful_buffers = ("velocity", "done")
    features: Tensor
    labels: Tensor
    shares: Tensor
    weight_rate: Tensor
    alpha_rate: Tensor
    velocity: Tensor
    done: Tensor

    def __init__(
        self, config: LPPlusPlusConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        rows, views = task.fixed_rows, task.fixed_rows.features.shape[1]
        features, labels = rows.features.flatten(0, 1), rows.labels.repeat_interleave(views)
        shares = (rows.weights / views).repeat_interleave(views)
        sums = torch.zeros_like(self.text).index_add(0, labels, shares.unsqueeze(1) * features)
        mass = torch.zeros_like(self.text[:, 0]).index_add(0, labels, shares)
        cosine, *rates = self._compute_constants(features, shares, sums, mass)
        self.weight = nn.Parameter(sums)
        self.alpha = nn.Parameter(config.alpha_scale * sums.new_tensor(cosine).expand_as(mass))
        buffers = {
            "features": features,
            "labels": labels,
            "shares": shares,
            "weight_rate": config.lr_scale * sums.new_tensor(rates[0]),
            "alpha_rate": config.lr_scale * sums.new_tensor(rates[1]),
            "velocity": torch.zeros_like(sums),
            "done": labels.new_zeros(()),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def _compute_constants(
        self, x: Tensor, share: Tensor, sums: Tensor, mass: Tensor
    ) -> list[float]:
        """Return the cosine that alpha starts from, and the rates of w and alpha.

        Args:
            x: Features, one row per view.
            share: Weight of each row.
            sums: Weighted sum of each class's rows.
            mass: Total weight of each class's rows.
        """
        x, share, sums, mass, text = (v.cpu().double() for v in (x, share, sums, mass, self.text))
        share, has_rows = share / share.sum(), mass > 0
        means = sums[has_rows] / mass[has_rows].unsqueeze(1)
        cosine = (means * text[has_rows]).sum(1).mean()
        if self.class_mask is not None:
            text = text[self.class_mask.cpu()]
        second_moment = x.T @ (share.unsqueeze(1) * x)
        mean_squares = ((x @ text.T).square() * share.unsqueeze(1)).sum(0)
        return [
            float(cosine),
            4 / float(torch.linalg.eigvalsh(second_moment)[-1]),
            1 / (4 * float(mean_squares.max())),
        ]

    def epoch(self) -> Float[Tensor, ""]:
        """Take one step of w, every tenth time also of alpha, and return the loss before it."""
        grad_and_loss = torch.func.grad_and_value(self._full_loss, argnums=(0, 1))
        (weight_grad, alpha_grad), loss = grad_and_loss(self.weight, self.alpha)
        self.done.add_(1)
        self.velocity.mul_(MOMENTUM).add_(weight_grad)
        self.weight.sub_(self.weight_rate * self.velocity)
        self.alpha.sub_(self.alpha_rate * alpha_grad * (self.done % ALPHA_EVERY == 0))
        return torch.as_tensor(loss)

    def _full_loss(self, weight: Tensor, alpha: Tensor) -> Tensor:
        """Return the weighted mean cross-entropy of all features."""
        # Padding has weight 0, but its label -1 must be replaced by a class of the loss.
        labels = torch.where(self.labels < 0, self.labels[0], self.labels)
        return self.cross_entropy(
            self._compute_logits(self.features, weight, alpha), labels, self.shares
        )

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return x^T (w_k + alpha_k t_k)."""
        return self._compute_logits(images, self.weight, self.alpha)

    def _compute_logits(self, features: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
        return features @ (weight + alpha.unsqueeze(1) * self.text).T
