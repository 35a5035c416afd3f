"""A generator that is trained in epochs, and a fine-tuner with a closed-form solution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ship.methods import Finetuner, Generator


class ResidualText(Generator):
    """x = text + A text + noise, normalized; A is fitted to images of the seen classes."""

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        size = self.text.shape[1]
        self.noise_size = size  # standard normal numbers per feature
        self.map = nn.Parameter(self.text.new_zeros(size, size))  # 0 at the start: x = text + noise

    def shift(self, class_ids: Tensor) -> Tensor:
        """Return the text features, moved by the learned map."""
        text = self.text[class_ids]
        return text + text @ self.map

    def loss(self, features: Tensor, labels: Tensor, noise: Tensor, epoch: float):
        """Return the mean squared distance to the images of the class."""
        return {"loss": (self.shift(labels) - features).square().sum(1).mean()}

    def sample(self, class_ids: Tensor, noise: Tensor) -> Tensor:
        """Return one unit-norm feature per class ID."""
        return F.normalize(self.shift(class_ids) + self.config.noise * noise, dim=-1)


class Ridge(Finetuner):
    """scores = zero-shot + logit_scale * ridge regression of the labels."""

    training_data = "fixed"

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        rows = task.fixed_rows
        x = rows.features[:, 0]  # view 0 is not augmented, like test images
        y = F.one_hot(rows.labels, len(self.text)).to(x)
        weighted = x * rows.weights[:, None]
        penalty = config.l2 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(weighted.T @ x + penalty, weighted.T @ y)
        self.register_buffer("weight", weight)

    def logits(self, images: Tensor, choice) -> Tensor:
        return self.zero_shot(images) + self.logit_scale * images @ self.weight
