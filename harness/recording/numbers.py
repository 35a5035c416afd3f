"""The final numbers of a trial's run, and what made them: code, packages, data and weights."""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from harness.planning import Fingerprints, Setting, plugins_text
from harness.store import FLAG, PROTOCOLS, Protocol, Tag, interval_metrics, split_seed
from harness.wording import count
from ship.plugins import installed_version
from ship.trial_config import RESULTS_VERSION

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
GIT_SECONDS = 5


def flag_tags(numbers: Mapping[str, float], seeds: Sequence[int]) -> dict[str, str]:
    """ship.flags: JSON of each flag that was raised and the seeds that raised it; {} if none."""
    raised = {
        name: [seed for seed, value in zip(seeds, values, strict=True) if value]
        for name, values in _over_seeds(numbers, seeds, f"test/{FLAG}").items()
        if any(values)
    }
    return {Tag.FLAGS: json.dumps(raised)} if raised else {}


def final_metrics(
    numbers: Mapping[str, float], seeds: Sequence[int], protocol: str
) -> dict[str, float]:
    """The final metrics of a run: its numbers, and the means over its seeds with intervals.

    Args:
        numbers: each seed's own, the objective and the cost, by their names in the store.
        seeds: the run's seeds.
        protocol: of the run, for the metrics that have intervals.
    """
    tested = _over_seeds(numbers, seeds, "test/")
    means = {f"test/{name}": sum(values) / len(values) for name, values in tested.items()}
    return {**means, **_intervals(tested, PROTOCOLS[protocol]), **numbers}


def summary_line(metrics: Mapping[str, float], n_seeds: int, protocol: str) -> str:
    """Return a run's result in words for MLflow's run page, such as "H 61.8 ± 0.7, 10 seeds".

    Args:
        metrics: Final metrics of the run.
        n_seeds: Number of its seeds.
        protocol: Protocol of the run, whose default metric is shown.

    Returns:
        The mean, and half of the 95% interval if there is one. Without a mean, an empty text.
    """
    rules = PROTOCOLS[protocol]
    mean, low, high = (metrics.get(f"test/{rules.default}{end}") for end in ("", "_low", "_high"))
    if mean is None:
        return ""
    spread = "" if low is None or high is None else f" ± {(high - low) / 2:.1f}"
    return f"{rules.headings[rules.default]} {mean:.1f}{spread}, {count(n_seeds, 'seed')}"


def _over_seeds(
    numbers: Mapping[str, float], seeds: Sequence[int], prefix: str
) -> dict[str, list[float]]:
    """Name behind the prefix -> the values under all seeds, of what each of them has."""
    values: dict[str, dict[int, float]] = {}
    for key, value in numbers.items():
        found = split_seed(key)
        if found and found[1].startswith(prefix):
            values.setdefault(found[1].removeprefix(prefix), {})[found[0]] = value
    return {name: [of[s] for s in seeds] for name, of in values.items() if of.keys() >= {*seeds}}


def _intervals(tested: Mapping[str, Sequence[float]], protocol: Protocol) -> dict[str, float]:
    """The 95% intervals over the run's own seeds, as tables have them, of what tables are about.

    Of the protocol's default metric and its halves; none where the seeds do not give one.
    """
    from harness.intervals import percent_interval  # numpy

    ends: dict[str, float] = {}
    for name in (protocol.default, *protocol.halves.get(protocol.default, ())):
        values = tested.get(name, ())
        if len(values) > 1 and all(map(math.isfinite, values)):
            found = percent_interval(values)
            ends |= interval_metrics(f"test/{name}", found.low, found.high)
    return ends


def provenance_tags(setting: Setting, fingerprints: Fingerprints) -> dict[str, str]:
    """Tags that say what made a run's numbers."""
    config = setting.config
    plugins = plugins_text(config)
    return {
        Tag.SELECTION: config.selection,
        Tag.PROTOCOL: config.protocol,
        Tag.BACKBONE: config.backbone,
        Tag.DATASET: config.dataset,
        Tag.BACKBONE_FINGERPRINT: fingerprints.backbone(config.backbone),
        Tag.DATASET_FINGERPRINT: fingerprints.dataset(config.dataset),
        Tag.SPLIT_VERSION: str(fingerprints.pictures(config.dataset).split_version),
        Tag.RESULTS_VERSION: str(RESULTS_VERSION),
        **source_tags(),
        **({Tag.PLUGINS: plugins} if plugins else {}),
        Tag.DEMONSTRATION: "true" if config.backbone == "pocket" else "false",
    }


@cache
def source_tags() -> dict[str, str]:
    """Where a run comes from: MLflow's own tags, the version of the code, and those of packages.

    The version is in a checkout with its commit: "0.2.0+g1a2b3c4d5e6f", ".dirty" if changed. A
    package that is absent has the version "".
    """
    versions = {name: installed_version(name) for name in PACKAGES}
    tags: dict[str, str] = {
        Tag.SOURCE_NAME: "ship-sweep",
        Tag.SOURCE_TYPE: "LOCAL",
        Tag.CODE_VERSION: versions["ship-sweep"],
        Tag.PACKAGES: json.dumps(versions),
    }
    # a virtual environment may lie inside some other repository
    here = _git("ls-files", "--error-unmatch", Path(__file__).name)
    if here and (commit := _git("rev-parse", "HEAD")):
        dirty = ".dirty" if _git("status", "--porcelain", "--untracked-files=no") else ""
        tags[Tag.SOURCE_COMMIT] = commit
        tags[Tag.CODE_VERSION] += f"+g{commit[:12]}{dirty}"
    return tags


def _git(*command: str) -> str:
    """What git says of the checkout that the package lies in; "" where it says nothing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
