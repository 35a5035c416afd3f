"""Extract features before the trials, and prefetch weights, images and features."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.config import (
    Factor,
    Resources,
    StudyConfig,
    iter_assignments,
    list_levels,
    load_study,
    resolve,
)
from harness.device import find_gpu_fault
from harness.messages import FeatureKey, list_feature_keys
from harness.method import MethodFunctions
from harness.planning import Fingerprints, Plan
from harness.progress import SteadyConsole, make_line_printer, show_progress
from harness.resources import get_machine_resources, resolve_resources
from harness.wording import count
from ship.plugins import find_plugin_identities, require_plugins
from ship.subsets import select_studied_labels
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from harness.ray import ClusterEncoder

# Keys that features depend on.
FEATURE_KEYS = ("backbone", "image_precision", "dataset", "targets", "augmentations")
# Keys that determine the classes whose features a trial reads.
CLASS_KEYS = ("protocol", "max_classes", "unseen_class")
# Feature set -> configs of trials. Features are extracted only for the classes of these trials, or
# for all classes if the configs are ().
ConfigsByFeatures = Mapping[FeatureKey, Sequence[TrialConfig]]


def make_fingerprints(
    study: StudyConfig,
    method: MethodFunctions | None,
    data_root: Path | str | None,
    cache_dir: Path | str | None,
) -> Fingerprints:
    """Return the fingerprints that identify a study's configurations.

    Args:
        study: Study with the options for reading a custom image folder.
        method: Method to run. Defaults to ship.
        data_root: Folder of the datasets. None if the study needs none.
        cache_dir: Cache folder. Defaults to the result of `get_cache_folder`.
    """
    root = None if data_root is None else Path(data_root)
    return Fingerprints(
        method or MethodFunctions(), root, get_cache_folder(cache_dir), study.folder_options
    )


def get_cache_folder(requested: Path | str | None) -> Path:
    """Return the cache folder.

    Args:
        requested: Folder. Defaults to $SHIP_SWEEP_CACHE. If that is not set, the default is the
            folder ship-sweep in the user's cache folder ($XDG_CACHE_HOME or ~/.cache).
    """
    if requested is not None:
        return Path(requested)
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SHIP_SWEEP_CACHE") or Path(user_cache) / "ship-sweep").absolute()


def collect_needs(study: StudyConfig, plan: Plan | None = None) -> ConfigsByFeatures:
    """Return the feature sets that trials of a plan read, including trials not proposed yet.

    Args:
        study: Study that the plan is for.
        plan: Plan of the study. Defaults to all configurations of the study.
    """
    configs_by_need: dict[FeatureKey, dict[object, TrialConfig]] = {}
    unrestricted: set[FeatureKey] = set()
    for config in iter_planned_configs(study, plan, (*FEATURE_KEYS, *CLASS_KEYS)):
        for index, need in enumerate(list_feature_keys(config)):
            # one config per combination of values of CLASS_KEYS
            configs_by_classes = configs_by_need.setdefault(need, {})
            configs_by_classes.setdefault(tuple(getattr(config, key) for key in CLASS_KEYS), config)
            # needs after the first are targets, which are tested on all of their classes
            if index or config.max_classes is None:
                unrestricted.add(need)
    return {
        need: () if need in unrestricted else (*configs_by_classes.values(),)
        for need, configs_by_classes in configs_by_need.items()
    }


def iter_planned_configs(
    study: StudyConfig, plan: Plan | None, keys: Sequence[str]
) -> Iterator[TrialConfig]:
    """Yield the configs of the trials that a plan may run.

    Args:
        study: Study that the plan is for.
        plan: Plan of the study. None stands for all configurations of the study.
        keys: Keys that matter to the caller. Of the configurations that a sampler may propose, only
            one per combination of the values of these keys is yielded.
    """
    if plan is not None:
        yield from (work.configuration.trial for work in plan.work)
    if plan is None or plan.n_proposals:
        yield from iter_space_configs(study, keys)


def iter_space_configs(study: StudyConfig, keys: Sequence[str]) -> Iterator[TrialConfig]:
    """Yield configs of a study's space, one for each combination of the values of `keys`.

    Keys that activate a factor (`when`) are varied, too. All others have their first level. A
    factor that is inactive in a configuration has the value of the study's constant.
    """
    varied_keys = {*keys, *chain(*(factor.when for factor in study.space.values()))}

    def relevant_levels(name: str, factor: Factor) -> Sequence[Any]:
        if name in varied_keys:
            # levels, or all values of an integer range, or only the ends of a real range
            return list(list_levels(study, name) or factor.list_values() or factor.bounds)
        return (factor.choices or factor.bounds)[:1]

    for assignment in iter_assignments(study.space, relevant_levels):
        yield resolve(study, assignment)


def list_studied_labels(configs: Sequence[TrialConfig], images: Any) -> list[int] | None:
    """Return the labels of the classes that trials study, or None for all classes.

    Args:
        configs: Configs of the trials. If empty, all classes are studied.
        images: Dataset of the trials, as the method loads it.
    """
    if not configs:
        return None
    names, n_seen = images.class_names, images.n_seen
    labels = (select_studied_labels(config, names, n_seen)[0].tolist() for config in configs)
    return sorted({*chain.from_iterable(labels)})


def prepare_features(
    needs: ConfigsByFeatures,
    fingerprints: Fingerprints,
    console: Console,
    encode: "ClusterEncoder | None" = None,
) -> dict[FeatureKey, Any]:
    """Extract each feature set, or read it from the cache.

    Args:
        needs: Feature sets, see `collect_needs`.
        fingerprints: Fingerprints of the study. They load its datasets. The fingerprint of each
            backbone that is loaded is added to them.
        console: Console that shows the progress.
        encode: Encoder of images. Defaults to encoding in this process on the CPU.

    Returns:
        The features of each feature set.

    Raises:
        ValueError: A backbone or a dataset cannot be loaded.
        UserError: A backbone's weights differ from those that were fingerprinted before.
    """
    features: dict[FeatureKey, Any] = {}
    device = encode.device if encode else "cpu"
    method, cache = fingerprints.method, fingerprints.cache_dir
    for backbone, group in groupby(sorted(needs), lambda need: need.backbone):
        # on the CPU, because trials need the whole memory of the GPU
        clip = method.load_backbone(backbone, "cpu")
        fingerprints.cache_backbone_fingerprint(backbone, clip.fingerprint)
        for need in group:
            clip.image_precision, clip.image_device = need.image_precision, device
            images = fingerprints.load_dataset(need.dataset)
            with show_progress(f"features: {need.dataset} through {backbone}", console) as report:
                classes = list_studied_labels(needs[need], images)
                features[need] = method.extract(
                    clip, images, need.augmentations, cache, report, need.splits, encode, classes
                )
    return features


def open_encoder(
    study: StudyConfig, method: MethodFunctions, *, verbose: bool
) -> "AbstractContextManager[ClusterEncoder | None]":
    """Return a context that provides an encoder on this machine's GPUs.

    It provides None if trials use no GPU; features are then extracted in this process.

    The encoder's actors have a separate Ray session. It starts with the first split to encode and
    ends with the context. The session of the trials cannot be used, because it is started later:
    its object store has to hold the features, whose size is known only after the extraction.

    Args:
        study: Study to extract features for. An actor has the resources of one trial.
        method: Method that loads the backbone.
        verbose: Whether Ray prints its messages.
    """
    actor_resources = resolve_resources(study.resources, get_machine_resources())
    if not actor_resources.gpus:
        return nullcontext()
    from harness.ray import ClusterEncoder, ray_session

    session = partial(ray_session, study.resources, None, 0, verbose)
    return ClusterEncoder(actor_resources, method.load_backbone, method.accelerator, session)


def check_plugins(study: StudyConfig, plan: Plan) -> None:
    """Check that the plugins of a study's trials can be used, by importing the methods of trials.

    Raises:
        PluginError: A plugin cannot be used. The message names the plugin and the reason.
    """
    for config in iter_planned_configs(study, plan, ("generator", "finetuner")):
        names = config.generator.name, config.finetuner.name
        require_plugins(find_plugin_identities(*names, metrics=config.metrics))


def prefetch_features(
    space: str,
    overrides: Sequence[str],
    data_root: Path | None,
    cache_dir: Path | None,
    *,
    to: str,
    verbose: bool,
) -> None:
    """Download the weights and images of a study and extract its features before it runs.

    This is `ship-sweep prefetch`, for a machine with internet access. Weights are downloaded to the
    cache of the Hugging Face hub, then images to `data_root`. Features are written to `cache_dir`.
    Some datasets have to be downloaded by hand. If any of them are missing, the error has one line
    per missing dataset.

    Args:
        space: See `run_study`.
        overrides: See `run_study`.
        data_root: See `run_study`.
        cache_dir: See `run_study`.
        to: Last step: "downloads", or "features" to extract features, too.
        verbose: See `run_study`.

    Raises:
        UserError: The YAML is wrong, or a dataset is missing.
        ValueError: A dataset or a backbone cannot be loaded.

    Example:
        >>> prefetch_features("prompt_len", [], None, None, to="downloads", verbose=False)
        weights of pocket: available
        images of photos: available
    """
    from harness.data.download import download_missing

    study, console = load_study(space, overrides, data_root, check_existence=False), SteadyConsole()
    print_line = make_line_printer(console)
    fingerprints = make_fingerprints(study, None, data_root, cache_dir)
    needs = collect_needs(study)
    for name in dict.fromkeys(need.backbone for need in needs):
        fingerprints.method.load_backbone(name, "cpu")  # downloads what the hub's cache lacks
        print_line(f"weights of {name}: available")
    datasets = list(dict.fromkeys(need.dataset for need in needs))
    if data_root is not None:
        download_missing(datasets, data_root, print_line)
    study = load_study(space, overrides, data_root)
    print_line(f"images of {', '.join(datasets)}: available")
    if to == "features":
        extract_missing_features(study, fingerprints, console, verbose=verbose)


def extract_missing_features(
    study: StudyConfig, fingerprints: Fingerprints, console: Console, *, verbose: bool
) -> None:
    """Extract every feature set that a study may read and that is not in the cache.

    The features are extracted on this machine's GPUs if trials use GPUs and torch can use a GPU
    here. Otherwise they are extracted on the CPU, without an error, because login nodes rarely have
    a GPU.

    Raises:
        ValueError: A backbone or a dataset cannot be read.
        ClusterError: Ray cannot start or fails.
    """
    print_line, reason = make_line_printer(console), find_gpu_fault()
    if reason is not None:
        if resolve_resources(study.resources, get_machine_resources()).gpus:
            fault = f"torch cannot use a GPU on this machine ({reason.rstrip('.')})"
            print_line(
                f"{fault}: features are extracted on the CPU. Trials with GPUs extract them again"
            )
        study = study.model_copy(update={"resources": Resources(cpus=study.resources.cpus, gpus=0)})
    needs = collect_needs(study)
    with open_encoder(study, fingerprints.method, verbose=verbose) as encode:
        prepare_features(needs, fingerprints, console, encode)
    print_line(f"{count(len(needs), 'feature set')} in {fingerprints.cache_dir}")
