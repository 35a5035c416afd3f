"""A generator, written for one seed and trained by epochs."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ship.single_seed import SeedPart, SeedTask, single_seed_generator


class ResidualText:
    """x = text + A text + noise, normalised; A is fitted to pictures of the seen classes."""

    def __init__(self, config, task: SeedTask, clip, seed: int) -> None:
        self.config, self.task = config, task
        size = task.text_features.shape[1]
        self.map = nn.Linear(size, size, bias=False).to(task.features)
        nn.init.zeros_(self.map.weight)  # it begins at the text feature
        self.optimizer = torch.optim.Adam(self.map.parameters(), lr=config.lr)
        self.rng = torch.Generator().manual_seed(seed)  # of training alone

    @property
    def epochs(self) -> int:
        return self.config.epochs

    def train_epoch(self) -> dict[str, Tensor]:
        """One step on a random view of every picture."""
        n, views, _ = self.task.features.shape
        view = torch.randint(views, (n,), generator=self.rng).to(self.task.labels.device)
        pictures = self.task.features[torch.arange(n, device=view.device), view]
        text = self.task.text_features[self.task.labels]
        loss = (text + self.map(text) - pictures).square().sum(1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss}

    def sample(self, class_ids: Tensor, rng: torch.Generator) -> Tensor:
        """All noise comes from rng, which is on the CPU."""
        text = self.task.text_features[class_ids]
        noise = torch.randn(text.shape, generator=rng, dtype=torch.float64).to(text)
        return F.normalize(text + self.map(text) + self.config.noise * noise, dim=-1)

    def learned(self) -> Mapping[str, nn.Module]:
        """All that sample() reads beside the text features."""
        return {"map": self.map}

    def parts(self) -> Mapping[str, SeedPart]:
        """All that an epoch changes: what a trial that is stopped goes on from."""
        return {"map": self.map, "optimizer": self.optimizer, "rng": self.rng}


build_residual_text = single_seed_generator(ResidualText)
