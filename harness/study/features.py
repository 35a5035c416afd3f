"""Before the sweep, on the driver: the plugins and features that the study's trials will need."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.config import Resources, StudyConfig, levels, resolve
from harness.errors import ConfigError
from harness.messages import feature_key, target_key
from harness.method import SPLITS, Method, knowing_plugins
from harness.planning import Fingerprints, Plan
from harness.progress import reporter
from harness.resources import extraction_resources, machine_resources
from reports.contract import printable
from ship.architectures import ImagePrecision
from ship.plugins import PluginError, carried, identities, load_carried, require_builders
from ship.registry import Origin
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.features import Encode

# the settings that features depend on
READ = ("backbone", "image_precision", "dataset", "targets", "views")
SAMPLE_SECONDS = 0.5


def fingerprints_of(
    study: StudyConfig,
    method: Method | None,
    data_root: Path | str | None,
    cache_dir: Path | str | None,
) -> Fingerprints:
    """What a study's settings are told apart by.

    Args:
        study: says how one's own folder is read.
        method: None: ship.
        data_root: folder of the data sets, None if the study needs none.
        cache_dir: see cache_folder.
    """
    root = None if data_root is None else Path(data_root)
    return Fingerprints(method or Method(), root, cache_folder(cache_dir), study.reading)


def cache_folder(given: Path | str | None) -> Path:
    """The cache folder; None: $SHIP_SWEEP_CACHE, else ship-sweep in the user's cache folder."""
    if given is not None:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SHIP_SWEEP_CACHE") or Path(home) / "ship-sweep").absolute()


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
    needs: dict[str, Need] = {}
    for config in configs_of(study, plan, READ):
        clip, own = (config.backbone, config.image_precision), feature_key(config)
        needs[own] = Need(own, *clip, config.dataset, config.views)
        for target in config.targets:
            key = target_key(config, target)
            needs[key] = Need(key, *clip, target, 0, ("test",))
    return list(needs.values())


def configs_of(study: StudyConfig, plan: Plan, keys: Sequence[str]) -> Iterator[TrialConfig]:
    """The trials that a plan may run: of proposals, one for all that share the values of `keys`."""
    yield from (work.setting.config for work in plan.work)
    varied = {name: levels_of(study, name) for name in keys if name in study.space}
    for values in product(*varied.values()) if plan.proposals else ():
        yield resolve(study, dict(zip(varied, values, strict=True)))


def levels_of(study: StudyConfig, name: str) -> list[Any]:
    """Every value that a setting may take: its factor's, or the constant alone.

    An integer range counts one by one.
    """
    if name not in study.space:
        return [getattr(study.trial, name)]
    values, factor = levels(study, name), study.space[name]
    if values is not None:
        return values
    if not isinstance(factor.low, int) or not isinstance(factor.high, int):
        raise ValueError(f"space.{name} must have choices: features are extracted for each")
    return list(range(factor.low, factor.high + 1))


def prepare_features(
    needs: Iterable[Need],
    fingerprints: Fingerprints,
    console: Console,
    encode: "Encode | None" = None,
) -> dict[str, Any]:
    """Extract, or read from the cache, each feature set; the result is by Need.key.

    Args:
        needs: the feature sets.
        fingerprints: where those of the backbones are remembered, and data sets are loaded.
        console: where progress goes.
        encode: what encodes pictures; None: this machine's cores.

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
    """
    features: dict[str, Any] = {}
    extract, cache = fingerprints.method.extract, fingerprints.cache_dir
    for need, clip, pictures in _loaded(needs, fingerprints):
        fingerprints.remember(need.backbone, clip.fingerprint)
        with reporter(f"features: {need.dataset} through {need.backbone}", console) as report:
            features[need.key] = extract(
                clip, pictures, need.views, cache, report, need.splits, encode
            )
    return features


def features_seconds(needs: Sequence[Need], fingerprints: Fingerprints) -> float | None:
    """Seconds that prepare_features would take for what the cache lacks, on this machine's cores.

    A sample of the pictures is encoded, SAMPLE_SECONDS in all if none are cached; no feature is
    written.

    Returns:
        None where nobody knows.

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
    """
    ask, cache = fingerprints.method.extraction_seconds, fingerprints.cache_dir
    if ask is None:
        return None
    budget = SAMPLE_SECONDS / max(1, sum(len(need.splits) for need in needs))
    return sum(
        ask(clip, pictures, need.views, cache, need.splits, budget)
        for need, clip, pictures in _loaded(needs, fingerprints)
    )


def _loaded(needs: Iterable[Need], fingerprints: Fingerprints) -> Iterator[tuple[Need, Any, Any]]:
    """Each need with its backbone, one of them at a time, and with its pictures.

    On the CPU: on a GPU, trials count on the whole of its memory.
    """
    in_order = sorted(needs, key=lambda need: (need.backbone, need.dataset))
    for backbone, group in groupby(in_order, lambda need: need.backbone):
        clip = fingerprints.method.load_backbone(backbone, "cpu")
        for need in group:
            clip.image_precision = need.image_precision
            yield need, clip, fingerprints.pictures(need.dataset)


def encoder_here(
    study: StudyConfig, method: Method, *, verbose: bool
) -> "AbstractContextManager[Encode | None]":
    """Give what encodes while the context lasts: actors with GPUs; None: the driver's own threads.

    Actors have a Ray of their own, which starts with the first split to encode and ends with the
    context: the trials' has a store that is as large as the features, which nobody knows yet.

    Args:
        study: for the resources of a trial, which an actor takes, too.
        method: ship.
        verbose: let Ray talk.
    """
    actor = extraction_resources(study.resources, machine_resources(study.resources))
    if not actor.gpus:
        return nullcontext()
    from harness.ray import ray_session

    return encoder_on(actor, method, lambda: ray_session(study, None, 0, verbose))


def encoder_on(
    actor: Resources, method: Method, session: Callable[[], AbstractContextManager[Any]]
) -> "AbstractContextManager[Encode]":
    """Give actors that encode while the context lasts.

    Args:
        actor: what each takes.
        method: ship.
        session: a Ray session around the actors; nullcontext: one is open.
    """
    from harness.ray import ClusterEncoder

    load = knowing_plugins(method.load_backbone)
    return ClusterEncoder(actor, load, method.accelerator, session)


def check_plugins(study: StudyConfig, plan: Plan, *, on_cluster: bool) -> None:
    """Import what the study's plugins need, nothing where it names none.

    On a cluster a worker does so: its nodes have packages of their own. On this machine, whose Ray
    is not started before the features are there, the driver does: its workers import from where it
    does.

    Raises:
        ConfigError: a line that names the plugin and says why a trial cannot use it.
    """
    planned: dict[str, str] = {}
    for config in configs_of(study, plan, ("generator", "finetuner")):
        planned |= identities(config.generator.name, config.finetuner.name)
    if not planned:
        return
    if on_cluster:
        import ray

        ask = ray.remote(num_cpus=0)(_fault)
        where, fault = "on a worker of the cluster: ", ray.get(ask.remote(carried(), planned))
    else:
        where, fault = "", _fault((), planned)
    if fault:
        raise ConfigError([printable(f"{where}{fault}")])


def _fault(files: tuple[Origin, ...], planned: Mapping[str, str]) -> str:
    """Why a trial could not use the plugins in this process; "": it could."""
    try:
        load_carried(files)
        require_builders(planned)
    except PluginError as error:
        return str(error)
    return ""
