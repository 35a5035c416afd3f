"""FLOPs of settings before anything runs, from class names and picture counts alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.cost import Cost, Memory, TowerShape
    from ship.datasets import PictureDataset, Survey
    from ship.subsets import FeatureSet

# a trial and the number of its seeds -> FLOPs
Flops = Callable[[TrialConfig, int], float]


def cost_of(
    config: TrialConfig,
    n_seeds: int,
    tower: "TowerShape",
    features: "FeatureSet",
    targets: "Sequence[FeatureSet]",
    ran: Mapping[str, int] | None = None,
) -> "Cost":
    """ship.cost of a trial on feature sets, of which names and labels are looked at.

    Args:
        features, targets: of config.dataset and of config.targets.
        ran: epochs that were run, by stage; None: all that are planned.
    """
    from ship.cost import DataShape, trial_cost
    from ship.subsets import studied_classes

    data = DataShape.of(studied_classes(config, features))
    return trial_cost(
        config, n_seeds, tower, data, [DataShape.of(target) for target in targets], ran
    )


@dataclass
class AnalyticCosts:
    """ship.cost for the settings of a study; datasets are surveyed once, weights never loaded.

    data_root: folder of the datasets.
    pictures: gives a dataset that is loaded already, by its name; None: it is surveyed.

    Raises:
        ValueError: calling it with a backbone, or a dataset, that is not there.
    """

    data_root: Path | None
    pictures: "Callable[[str], PictureDataset] | None" = None
    _features: dict[str, "FeatureSet"] = field(default_factory=dict)
    _towers: dict[tuple[str, str], "TowerShape"] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Without towers, whose functions do not travel; they are made again in no time."""
        return {**vars(self), "_towers": {}}

    def __call__(self, config: TrialConfig, n_seeds: int) -> float:
        """FLOPs of all planned epochs of a trial: an upper bound (see ship.cost)."""
        return self._cost(config, n_seeds).flops

    def _cost(self, config: TrialConfig, n_seeds: int) -> "Cost":
        targets = [self.bare(name) for name in config.targets]
        return cost_of(config, n_seeds, self._tower(config), self.bare(config.dataset), targets)

    def memory(self, config: TrialConfig, n_seeds: int) -> "Memory":
        """Bytes of a trial's largest step, beside the backbone, by the number of replicas."""
        return self._cost(config, n_seeds).memory

    def bare(self, dataset: str) -> "FeatureSet":
        """A dataset's names and labels, with features of size 0."""
        if dataset not in self._features:
            from harness.config import bare_features
            from ship.datasets import survey_dataset, template_of

            if self.pictures is None:
                found: PictureDataset | Survey = survey_dataset(dataset, self.data_root)
            else:
                found = self.pictures(dataset)
            bare = bare_features(dataset, found)
            self._features[dataset] = replace(bare, template=template_of(dataset))
        return self._features[dataset]

    def _tower(self, config: TrialConfig) -> "TowerShape":
        from ship.cost import TowerShape

        key = (config.backbone, config.precision)
        if key not in self._towers:
            self._towers[key] = TowerShape.of_name(*key)
        return self._towers[key]
