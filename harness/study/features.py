"""Before the sweep, on the driver: plugins and features that trials will need; `--prefetch`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.config import Factor, Resources, StudyConfig, assignments, levels, load_study, resolve
from harness.device import why_no_gpu
from harness.messages import Need, needs_of
from harness.method import Method
from harness.planning import Fingerprints, Plan
from harness.progress import SteadyConsole, line_printer, reporter
from harness.resources import machine_resources, resolved_resources
from harness.wording import count
from ship.plugins import identities, require_builders
from ship.subsets import studied_labels
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.features import Encode

# the settings that features depend on, and those that decide which classes' features are read
FEATURE_KEYS = ("backbone", "image_precision", "dataset", "targets", "views")
CLASS_KEYS = ("protocol", "max_classes", "unseen_class")
# Each feature set that trials read, with the trials that study a part of its classes; (): all.
NeededFeatures = Mapping[Need, Sequence[TrialConfig]]


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


def needed(study: StudyConfig, plan: Plan | None = None) -> NeededFeatures:
    """Collect the feature sets that the plan's work and any proposal may read.

    Args:
        study: Study that the plan is for.
        plan: Its plan. Defaults to all configurations of the study.
    """
    found: dict[Need, dict[object, TrialConfig]] = {}
    whole: set[Need] = set()
    for config in configs_of(study, plan, (*FEATURE_KEYS, *CLASS_KEYS)):
        for place, need in enumerate(needs_of(config)):
            limits = found.setdefault(need, {})
            limits.setdefault(tuple(getattr(config, key) for key in CLASS_KEYS), config)
            if place or config.max_classes is None:  # tests are on all classes of a target
                whole.add(need)
    return {need: () if need in whole else (*own.values(),) for need, own in found.items()}


def configs_of(study: StudyConfig, plan: Plan | None, keys: Sequence[str]) -> Iterator[TrialConfig]:
    """The trials that a plan may run: of proposals, one for all that share the values of `keys`.

    Without a plan every setting counts as a proposal.
    """
    if plan is not None:
        yield from (work.setting.config for work in plan.work)
    if plan is None or plan.proposals:
        yield from configs_in(study, keys)


def configs_in(study: StudyConfig, keys: Sequence[str]) -> Iterator[TrialConfig]:
    """The trials of a study's space, one for all that share the values of `keys`.

    Each is a setting of the space: where a factor is not there, the constant is.
    """
    varied = {*keys, *chain(*(factor.when for factor in study.space.values()))}

    def looked_at(name: str, factor: Factor) -> Sequence[Any]:
        if name in varied:  # an integer range counts one by one, of a real one its ends do
            return list(levels(study, name) or factor.drawn() or factor.bounds)
        return (factor.choices or factor.bounds)[:1]

    for assignment in assignments(study.space, looked_at):
        yield resolve(study, assignment)


def classes_of(configs: Sequence[TrialConfig], pictures: Any) -> list[int] | None:
    """Return the labels of the classes that some trials study.

    Args:
        configs: The trials. Without any, all classes are studied.
        pictures: Their dataset, as the method loads it.
    """
    if not configs:
        return None
    names, n_seen = pictures.class_names, pictures.n_seen
    labels = (studied_labels(config, names, n_seen)[0].tolist() for config in configs)
    return sorted({*chain.from_iterable(labels)})


def prepare_features(
    needs: NeededFeatures,
    fingerprints: Fingerprints,
    console: Console,
    encode: "Encode | None" = None,
) -> dict[Need, Any]:
    """Extract, or read from the cache, each feature set.

    Args:
        needs: the feature sets, with the trials that decide which classes are extracted.
        fingerprints: where those of the backbones are remembered, and data sets are loaded.
        console: where progress goes.
        encode: what encodes pictures; None: this machine's cores.

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
        UserError: a backbone's weights are not those that were remembered.
    """
    features: dict[Need, Any] = {}
    method, cache = fingerprints.method, fingerprints.cache_dir
    for backbone, group in groupby(sorted(needs), lambda need: need.backbone):
        # on a GPU, trials count on the whole of its memory
        clip = method.load_backbone(backbone, "cpu")
        fingerprints.remember(backbone, clip.fingerprint)
        for need in group:
            clip.image_precision = need.image_precision
            pictures = fingerprints.pictures(need.dataset)
            with reporter(f"features: {need.dataset} through {backbone}", console) as report:
                classes = classes_of(needs[need], pictures)
                features[need] = method.extract(
                    clip, pictures, need.views, cache, report, need.splits, encode, classes
                )
    return features


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
    actor = resolved_resources(study.resources, machine_resources())
    if not actor.gpus:
        return nullcontext()
    from harness.ray import ClusterEncoder, ray_session

    session = partial(ray_session, study.resources, None, 0, verbose)
    return ClusterEncoder(actor, method.load_backbone, method.accelerator, session)


def check_plugins(study: StudyConfig, plan: Plan) -> None:
    """Import what the study's plugins need, nothing where it names none.

    Raises:
        PluginError: a line that names the plugin and says why a trial cannot use it.
    """
    for config in configs_of(study, plan, ("generator", "finetuner")):
        require_builders(identities(config.generator.name, config.finetuner.name))


def prefetch(
    space: str,
    overrides: Sequence[str],
    data_root: Path | None,
    cache_dir: Path | None,
    *,
    to: str,
    verbose: bool,
) -> None:
    """`--prefetch`: the weights and pictures of a study, then its features, ahead of it.

    Where there is a network, or nothing else to do. It writes nothing but caches: the hub's, and
    the study's own. Weights come first, as pictures may have to be put in place by hand: then the
    study is refused, with a line for each.

    Args:
        space, overrides, data_root, cache_dir, verbose: see run_study.
        to: the last step: "downloads" or "features".

    Raises:
        UserError, ValueError: a mistake in the YAML, a dataset or a backbone that cannot be had.
    """
    from harness.data.download import fetch_missing

    study, console = load_study(space, overrides, data_root, there=False), SteadyConsole()
    say, prints = line_printer(console), fingerprints_of(study, None, data_root, cache_dir)
    needs = needed(study)
    for name in dict.fromkeys(need.backbone for need in needs):
        prints.method.load_backbone(name, "cpu")  # what is not in the hub's cache is downloaded
        say(f"weights of {name}: they are here")
    datasets = list(dict.fromkeys(need.dataset for need in needs))
    if data_root is not None:
        fetch_missing(datasets, data_root, say)
    study = load_study(space, overrides, data_root)
    say(f"pictures of {', '.join(datasets)}: they are here")
    if to == "features":
        fetch_features(study, prints, console, verbose=verbose)


def fetch_features(
    study: StudyConfig, prints: Fingerprints, console: Console, *, verbose: bool
) -> None:
    """Extract every feature set that a study may read; what the cache has is not extracted again.

    On this machine's GPUs if trials take GPUs and torch can use them, else on its cores: a login
    node seldom has one.

    Raises:
        ValueError: a backbone or a data set cannot be read.
        ClusterError: Ray cannot do it.
    """
    say, why = line_printer(console), why_no_gpu()
    if why is not None:
        if resolved_resources(study.resources, machine_resources()).gpus:
            say(f"torch cannot use a GPU here ({why.rstrip('.')}): the CPU extracts features")
        study = study.model_copy(update={"resources": Resources(cpus=study.resources.cpus, gpus=0)})
    needs = needed(study)
    with encoder_here(study, prints.method, verbose=verbose) as encode:
        prepare_features(needs, prints, console, encode)
    say(f"{count(len(needs), 'feature set')} in {prints.cache_dir}")
