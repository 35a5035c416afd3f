"""Compute the final metrics of a trial's run, and the tags with their provenance."""

import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from harness.planning import Configuration, Fingerprints, format_plugins
from harness.store import FLAG, PROTOCOLS, ProtocolMetrics, Tag, make_interval_metrics, split_seed
from harness.wording import count
from ship.plugins import get_installed_version
from ship.trial_config import RESULTS_VERSION

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
GIT_SECONDS = 5


def make_flag_tags(numbers: Mapping[str, float], seeds: Sequence[int]) -> dict[str, str]:
    """Return the tag ship.flags, JSON with the seeds of each raised flag. {} if none was raised."""
    flags = {
        name: [seed for seed, value in zip(seeds, values, strict=True) if value]
        for name, values in _collect_values(numbers, seeds, f"test/{FLAG}").items()
        if any(values)
    }
    return {Tag.FLAGS: json.dumps(flags)} if flags else {}


def compute_final_metrics(
    numbers: Mapping[str, float], seeds: Sequence[int], protocol: str
) -> dict[str, float]:
    """Return all final metrics of a run: its numbers, and the means over seeds with intervals.

    Args:
        numbers: Numbers of each seed, the objective and the costs, by the metric's key.
        seeds: Seeds of the run.
        protocol: Name of the run's protocol, which determines the metrics that have intervals.

    Returns:
        Values by the metric's key.
    """
    test_values = _collect_values(numbers, seeds, "test/")
    means = {f"test/{name}": sum(values) / len(values) for name, values in test_values.items()}
    return {**means, **_compute_intervals(test_values, PROTOCOLS[protocol]), **numbers}


def format_summary(metrics: Mapping[str, float], n_seeds: int, protocol: str) -> str:
    """Return a run's result as text for MLflow's run page, such as "H 61.8 ± 0.7, 10 seeds".

    Args:
        metrics: Final metrics of the run.
        n_seeds: Number of its seeds.
        protocol: Name of the run's protocol. Its default metric is the result.

    Returns:
        The mean over seeds with half the width of its 95% interval, or without if `metrics` lacks
        the interval. "" if `metrics` lacks the mean.
    """
    rules = PROTOCOLS[protocol]
    mean, low, high = (metrics.get(f"test/{rules.default}{end}") for end in ("", "_low", "_high"))
    if mean is None:
        return ""
    spread = "" if low is None or high is None else f" ± {(high - low) / 2:.1f}"
    return f"{rules.headings[rules.default]} {mean:.1f}{spread}, {count(n_seeds, 'seed')}"


def _collect_values(
    numbers: Mapping[str, float], seeds: Sequence[int], prefix: str
) -> dict[str, list[float]]:
    """Return the values of each metric with a name prefix, one per seed in the order of `seeds`.

    Args:
        numbers: Numbers by the metric's key.
        seeds: Seeds. A metric that one of them lacks is left out.
        prefix: Prefix of the names. It is removed from the names in the result.
    """
    values_by_metric: dict[str, dict[int, float]] = {}
    for key, value in numbers.items():
        if seed_and_name := split_seed(key):
            seed, name = seed_and_name
            if name.startswith(prefix):
                values_by_metric.setdefault(name.removeprefix(prefix), {})[seed] = value
    return {
        name: [by_seed[seed] for seed in seeds]
        for name, by_seed in values_by_metric.items()
        if by_seed.keys() >= {*seeds}
    }


def _compute_intervals(
    test_values: Mapping[str, Sequence[float]], protocol: ProtocolMetrics
) -> dict[str, float]:
    """Return the ends of 95% intervals of means over seeds by the metric's key.

    There is an interval for the protocol's default metric and, if it is a harmonic mean, for the
    two metrics that it combines. A metric with fewer than two values, or with a value that is not
    finite, has none.

    Args:
        test_values: Values of the seeds by the metric's name.
        protocol: Metrics of the run's protocol.
    """
    from harness.intervals import compute_percent_interval  # numpy

    ends: dict[str, float] = {}
    for name in (protocol.default, *protocol.halves.get(protocol.default, ())):
        values = test_values.get(name, ())
        if len(values) > 1 and all(map(math.isfinite, values)):
            interval = compute_percent_interval(values)
            ends |= make_interval_metrics(f"test/{name}", interval.low, interval.high)
    return ends


def make_provenance_tags(
    configuration: Configuration, fingerprints: Fingerprints
) -> dict[str, str]:
    """Return the tags that identify a run's protocol, data, weights, code and plugins."""
    config = configuration.trial
    plugins = format_plugins(config)
    return {
        Tag.SELECTION: config.selection,
        Tag.PROTOCOL: config.protocol,
        Tag.BACKBONE: config.backbone,
        Tag.DATASET: config.dataset,
        Tag.BACKBONE_FINGERPRINT: fingerprints.backbone_fingerprint(config.backbone),
        Tag.DATASET_FINGERPRINT: fingerprints.dataset_fingerprint(config.dataset),
        Tag.SPLIT_VERSION: str(fingerprints.load_dataset(config.dataset).split_version),
        Tag.RESULTS_VERSION: str(RESULTS_VERSION),
        **make_source_tags(),
        **({Tag.PLUGINS: plugins} if plugins else {}),
        Tag.DEMONSTRATION: "true" if config.backbone == "pocket" else "false",
    }


@cache
def format_environment() -> str:
    """Return the driver's Python version and installed packages, in pip's format."""
    packages = {f"{item.name}=={item.version}" for item in distributions()}
    return "\n".join([f"# Python {platform.python_version()}", *sorted(packages), ""])


@cache
def make_source_tags() -> dict[str, str]:
    """Return the tags of a run's source: the version of the code, the commit and the packages.

    In a git checkout the version of the code includes the commit, e.g. "0.2.0+g1a2b3c4d5e6f". It
    ends with ".dirty" if tracked files were changed. Elsewhere there is no tag for the commit. A
    package that is not installed has the version "".
    """
    versions = {name: get_installed_version(name) for name in PACKAGES}
    tags: dict[str, str] = {
        Tag.SOURCE_NAME: "ship-sweep",
        Tag.SOURCE_TYPE: "LOCAL",
        Tag.CODE_VERSION: versions["ship-sweep"],
        Tag.PACKAGES: json.dumps(versions),
    }
    # a virtual environment may be inside another repository
    is_checkout = _run_git("ls-files", "--error-unmatch", Path(__file__).name)
    if is_checkout and (commit := _run_git("rev-parse", "HEAD")):
        dirty = ".dirty" if _run_git("status", "--porcelain", "--untracked-files=no") else ""
        tags[Tag.SOURCE_COMMIT] = commit
        tags[Tag.CODE_VERSION] += f"+g{commit[:12]}{dirty}"
    return tags


def _run_git(*command: str) -> str:
    """Return the output of a git command in this file's folder, or "" if the command fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
