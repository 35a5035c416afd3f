"""FLOPs of settings before anything runs, from class names and picture counts alone."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.cost import BlankCLIP, Counted
    from ship.datasets import PictureDataset, Survey
    from ship.subsets import FeatureSet

# a trial and the number of its seeds -> FLOPs
Flops = Callable[[TrialConfig, int], float]
# Further replicas take what these take: they are not counted one by one.
MOST_REPLICAS = 3
# Settings whose memory is counted: it takes a second or so of each, before a study begins.
MOST_MEASURED = 16


@dataclass
class CountedCosts:
    """ship.cost for the settings of a study, those alike once; weights are never loaded.

    data_root: folder of the datasets, each of which is surveyed once.
    pictures: gives a dataset that is loaded already, by its name; None: it is surveyed.

    Raises:
        ValueError: calling it with a backbone, or a dataset, that is not there, or that cannot
            carry the setting.
    """

    data_root: Path | None
    pictures: "Callable[[str], PictureDataset] | None" = None
    _features: dict[str, "FeatureSet"] = field(default_factory=dict)
    _clips: dict[tuple[str, str], "BlankCLIP"] = field(default_factory=dict)
    _counted: dict[Hashable, "Counted"] = field(default_factory=dict)
    _memory: dict[Hashable, int] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Without backbones, which do not travel; they are made again in no time."""
        return {**vars(self), "_clips": {}}

    def __call__(self, config: TrialConfig, n_seeds: int) -> float:
        """FLOPs of all planned epochs of a trial: an upper bound (see ship.cost)."""
        from ship.cost import alike, count_trial

        replicas = min(n_seeds, MOST_REPLICAS)
        key = alike(config), replicas
        if key not in self._counted:
            self._counted[key] = count_trial(config, *self._shown(config), replicas)
        return self._counted[key].flops(config, n_seeds)

    def memory(self, config: TrialConfig) -> int:
        """Bytes that each seed of a trial holds at most, beside the backbone.

        Of very many settings some are counted, and the largest of these stands for the rest.
        """
        from ship.cost import alike, count_memory

        key = alike(config)
        if key not in self._memory:
            if len(self._memory) >= MOST_MEASURED:
                return max(self._memory.values())
            self._memory[key] = count_memory(config, *self._shown(config))
        return self._memory[key]

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

    def _shown(
        self, config: TrialConfig
    ) -> tuple["FeatureSet", dict[str, "FeatureSet"], "BlankCLIP"]:
        """Noise for the pictures of a trial and of its targets, and its backbone."""
        from ship.cost import BlankCLIP, random_features, random_target

        key = (config.backbone, config.precision)
        if key not in self._clips:
            self._clips[key] = BlankCLIP(*key)
        clip = self._clips[key]
        features = random_features(self.bare(config.dataset), config, clip.feature_dim)
        targets = {t: random_target(self.bare(t), clip.feature_dim) for t in config.targets}
        return features, targets, clip
