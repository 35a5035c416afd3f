"""python -m tests.bench.bench_search [--smoke]: how many trials do searches need for the optimum?

The space is that of search_spaces/joint.yaml. No trial trains: H is a planted surface with a known
optimum, plus noise of the size that docs/results/joint.md reports for seeds. docs/howto/search.md
quotes the table. It takes ten minutes on one core, most of it for the Gaussian process.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import load_study
from harness.planning import Fingerprints
from reports.stats import compute_mean_interval
from tests.bench.idle_method import make_idle_method
from tests.bench.markdown import format_table
from tests.harness.tuning.searchers import make_searcher
from tests.harness.tuning.test_known_optimum import (
    N_TRIALS,
    SEEDS,
    NoisyScore,
    count_trials_until_near,
)

JOINT = Path(__file__).parents[2] / "search_spaces" / "joint.yaml"
SAMPLERS = ("random", "tpe", "gp")
REPEATS = 30


@dataclass(frozen=True)
class Row:
    """The searches of one sampler.

    Attributes:
        sampler: Name of the sampler.
        n: Number of searches.
        trials: Mean number of trials until a configuration is within half a point of the optimum,
            with its 95% interval. A search without such a configuration counts one trial more than
            it has.
        fewer: Mean difference to random search with the same noise, with its 95% interval.
        failed: Searches without such a configuration, in percent.
    """

    sampler: str
    n: int
    trials: str
    fewer: str
    failed: float


def count_trials(sampler: str, repeats: int, folder: Path) -> list[int]:
    """Return the number of trials that each search of a sampler needs.

    Args:
        sampler: Name of the sampler.
        repeats: Number of searches. Each has its own sampler seed and noise.
        folder: Folder for fingerprints.
    """
    prints = Fingerprints(make_idle_method(folder / "log", 1), None, folder / "cache")
    update = {"sampler": sampler, "n_trials": N_TRIALS, "controls": False}
    study = load_study(JOINT).model_copy(update={**update, "seeds": tuple(range(SEEDS))})
    counts = []
    for repeat in range(repeats):
        seeded = study.model_copy(update={"sampler_seed": repeat})
        counts.append(count_trials_until_near(make_searcher(seeded, prints), NoisyScore(repeat)))
    return counts


def compare(repeats: int) -> list[Row]:
    """Return a row per sampler, random search first."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        counts = {sampler: count_trials(sampler, repeats, Path(name)) for sampler in SAMPLERS}
    rows = []
    for sampler, n_trials in counts.items():
        difference = [a - b for a, b in zip(n_trials, counts["random"], strict=True)]
        failed = 100 * sum(number > N_TRIALS for number in n_trials) / repeats
        mean, mean_difference = _format_mean(n_trials), _format_mean(difference)
        rows.append(Row(sampler, repeats, mean, mean_difference, failed))
    return rows


def _format_mean(values: Sequence[int]) -> str:
    """Return a mean with its 95% interval, if there is one."""
    estimate = compute_mean_interval([float(value) for value in values])
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.1f}"
    return f"{estimate.mean:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]"


def main(words: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two searches each, as a smoke test")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="searches per sampler")
    options = parser.parse_args(words)
    print(format_table(compare(2 if options.smoke else options.repeats)))


if __name__ == "__main__":
    main()
