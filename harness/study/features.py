"""Before the sweep, on the driver: extract every feature set that the study's trials will read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import StudyConfig, levels, resolve
from harness.method import SPLITS, Method
from harness.planning import Fingerprints, Plan
from harness.progress import reporter
from harness.worker import feature_key, target_key
from ship.architectures import ImagePrecision
from ship.trial_config import TrialConfig

# the settings that features depend on
READ = ("backbone", "image_precision", "dataset", "targets", "views")
SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Need:
    """A feature set that trials read: the dataset that is trained on, or a target's test pictures.

    key: what workers find it by.
    """

    key: str
    backbone: str
    image_precision: ImagePrecision
    dataset: str
    views: int
    splits: tuple[str, ...] = SPLITS


def needed(study: StudyConfig, plan: Plan) -> list[Need]:
    """Each feature set that the plan's work and any proposal may read."""
    configs = [work.setting.config for work in plan.work]
    if plan.proposals:
        configs += [resolve(study, update) for update in _combinations(study)]
    return list({need.key: need for config in configs for need in _needs(config)}.values())


def _needs(config: TrialConfig) -> Iterator[Need]:
    clip = (config.backbone, config.image_precision)
    yield Need(feature_key(config), *clip, config.dataset, config.views)
    for target in config.targets:
        yield Need(target_key(config, target), *clip, target, 0, ("test",))


def prepare_features(
    needs: Iterable[Need],
    fingerprints: Fingerprints,
    method: Method,
    cache_dir: Path,
    console: Console,
    encode: Any = None,
) -> dict[str, Any]:
    """Extract, or read from the cache, each feature set; the result is by Need.key.

    Args:
        needs: the feature sets.
        fingerprints: where those of the backbones are remembered, and data sets are loaded.
        method: ship.
        cache_dir: of the features.
        console: where progress goes.
        encode: what encodes pictures; None: this machine's cores, else what
            harness.cluster.feature_extraction has.

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
    """
    features: dict[str, Any] = {}
    clip: Any = None
    # one backbone at a time; on the CPU: on a GPU, trials count on the whole of its memory
    for need in sorted(needs, key=lambda need: (need.backbone, need.dataset)):
        if clip is None or clip[0] != need.backbone:
            clip = (need.backbone, method.load_backbone(need.backbone, "cpu"))
            fingerprints.remember(need.backbone, clip[1].fingerprint)
        clip[1].image_precision = need.image_precision
        pictures = fingerprints.pictures(need.dataset)
        with reporter(f"features: {need.dataset} through {need.backbone}", console) as report:
            features[need.key] = method.extract(
                clip[1], pictures, need.views, cache_dir, report, need.splits, encode
            )
    return features


def features_seconds(
    needs: Sequence[Need], fingerprints: Fingerprints, method: Method, cache_dir: Path
) -> float | None:
    """Seconds that prepare_features would take for what the cache lacks, on this machine's cores.

    A sample of the pictures is encoded, SAMPLE_SECONDS in all if none are cached; nothing is
    written.

    Args:
        needs, fingerprints, method, cache_dir: as of prepare_features.

    Returns:
        None where nobody knows.

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
    """
    if method.extraction_seconds is None:
        return None
    clip: Any = None
    seconds = 0.0
    for need in sorted(needs, key=lambda need: (need.backbone, need.dataset)):
        if clip is None or clip[0] != need.backbone:
            clip = (need.backbone, method.load_backbone(need.backbone, "cpu"))
        clip[1].image_precision = need.image_precision
        pictures, budget = fingerprints.pictures(need.dataset), SAMPLE_SECONDS / len(needs)
        seconds += method.extraction_seconds(
            clip[1], pictures, need.views, cache_dir, need.splits, budget
        )
    return seconds


def _combinations(study: StudyConfig) -> Iterator[Mapping[str, Any]]:
    varied = {name: levels_of(study, name) for name in READ if name in study.space}
    for values in product(*varied.values()):
        yield dict(zip(varied, values, strict=True))


def levels_of(study: StudyConfig, name: str) -> list[Any]:
    """Every value that a factor may take; an integer range counts one by one."""
    values = levels(study, name)
    if values is not None:
        return values
    factor = study.space[name]
    if not isinstance(factor.low, int) or not isinstance(factor.high, int):
        raise ValueError(f"space.{name} must have choices: features are extracted for each")
    return list(range(factor.low, factor.high + 1))
