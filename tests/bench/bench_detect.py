"""python -m tests.bench.bench_detect [--smoke]: what `ship-sweep --detect` errs, and what it saves.

Studies are made up in which the truth is known: settings that differ from a baseline by so many
times the effect that is looked for, under the same seeds. Each is run as --detect would run it, and
with a fixed number of seeds that finds the effect as often. The full run takes some ten minutes.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.stats import Design, critical, stages
from reports.stats.intervals import CONFIDENCE
from reports.stats.sequential import DIFFERS, EQUIVALENT, Outcome, Stops, decide

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

STUDIES = 2_000
COMPARISONS = 8
CAP = 6  # pilots
JUDGED = 2  # comparisons of each study whose intervals are looked at
EFFECTS = (0.0, 0.5, 1.0, 2.0, 4.0)  # times the effect that is looked for
# Of the 37 differences of H and accuracy to a baseline in docs/results with one factor, in points:
# 27% below 0.25, 38% from 0.25 to 0.75, 3% from there to 3, and 32% beyond.
PACKAGED = (0.27, 0.38, 0.03, 0.0, 0.32)
EVENLY = (0.2, 0.2, 0.2, 0.2, 0.2)

# Noise of one setting's metric, of mean 0 and deviation 1. A shared part cancels in differences.
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed (a gamma)": lambda rng, shape: 1 - rng.gamma(1.0, 1.0, shape),
    "heavy tails (t, 3 df)": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
}


@dataclass(frozen=True)
class Kind:
    """Studies of one kind.

    noise: of NOISE; skewed alone: that of the baseline is normal, so that differences are skewed.
    spread: standard deviation of the paired differences, in effects.
    """

    pilot: int
    noise: str
    spread: float
    skewed_alone: bool = False

    @property
    def design(self) -> Design:
        return Design(1.0, stages(self.pilot, CAP * self.pilot), COMPARISONS)

    def differences(self, rng: np.random.Generator, effects: Array, seeds: int) -> Array:
        """To the baseline, (studies, comparisons, seeds), from effects (studies, comparisons)."""
        share = self.spread / np.sqrt(2)
        studies = len(effects)
        draw = NOISE[self.noise]
        of_baseline = NOISE["normal"] if self.skewed_alone else draw
        own = draw(rng, (studies, COMPARISONS, seeds))
        baseline = of_baseline(rng, (studies, 1, seeds))
        return np.asarray(effects[..., None] + share * (own - baseline))


@dataclass(frozen=True)
class Found:
    """What was found in the studies of one kind and one true effect, or mix of effects.

    false: share of studies that say of any comparison without a difference that it differs.
    differs, equivalent: shares of comparisons.
    covered, plain: shares whose interval holds the truth, the design's (of the first JUDGED
        comparisons of each study) and a plain t-interval.
    seeds: mean of a comparison. trials: mean of a study, one a seed and setting.
    """

    false: float
    differs: float
    equivalent: float
    covered: float
    plain: float
    seeds: float
    trials: float


def find(kind: Kind, effects: Array, rng: np.random.Generator) -> Found:
    """Run the studies.

    Args:
        effects: true ones, (studies, comparisons).
    """
    looks = np.array(kind.design.looks)
    stops, means, stds = _stops(kind, effects, rng)
    mean, std = (np.take_along_axis(each, stops.look[None], axis=0)[0] for each in (means, stds))
    seeds = looks[stops.look]
    half = np.array([critical(n - 1) for n in looks])[stops.look] * std / np.sqrt(seeds)
    covered = [
        _holds(
            Outcome(kind.design, tuple(stops.outer[:, *at]), mean[at], std[at], seeds[at]), truth
        )
        for at, truth in np.ndenumerate(effects)
        if at[1] < JUDGED
    ]
    differs = stops.why == DIFFERS
    return Found(
        false=float((differs & (effects == 0)).any(axis=1).mean()),
        differs=float(differs.mean()),
        equivalent=float((stops.why == EQUIVALENT).mean()),
        covered=float(np.mean(covered)),
        plain=float((np.abs(mean - effects) <= half).mean()),
        seeds=float(seeds.mean()),
        trials=float((seeds.sum(axis=1) + seeds.max(axis=1)).mean()),
    )


def _stops(kind: Kind, effects: Array, rng: np.random.Generator) -> tuple[Stops, Array, Array]:
    """Where the comparisons stop; means and deviations, (looks, studies, comparisons)."""
    values = kind.differences(rng, effects, kind.design.looks[-1])
    means = np.stack([values[..., :n].mean(axis=-1) for n in kind.design.looks])
    stds = np.stack([values[..., :n].std(axis=-1, ddof=1) for n in kind.design.looks])
    return decide(kind.design, means, stds), means, stds


def _holds(outcome: Outcome, truth: float) -> bool:
    """Whether the 95% interval holds the truth: whether its test does not reject it."""
    tail = (1 - CONFIDENCE) / 2
    return tail <= outcome.chance_above(truth) <= 1 - tail


def fixed_seeds(kind: Kind, power: float, effects: Array, rng: np.random.Generator) -> int:
    """The fewest seeds at which paired t-tests with Holm's method find the first comparison so.

    Args:
        power: share of studies in which it is to be found.
        effects: true ones, (studies, comparisons).
    """
    most = 2 * kind.design.looks[-1]
    values = kind.differences(rng, effects, most)
    for n in range(2, most):
        part = values[..., :n]
        t = np.abs(part.mean(axis=-1) / part.std(axis=-1, ddof=1) * np.sqrt(n))
        steps = [critical(n - 1, (1 - CONFIDENCE) / left) for left in range(COMPARISONS, 0, -1)]
        rejected = np.cumprod(-np.sort(-t, axis=1) > np.array(steps), axis=1).sum(axis=1)
        if ((t > t[:, :1]).sum(axis=1) < rejected).mean() >= power:
            return n
    return most


def rows(kind: Kind, studies: int) -> Iterator[tuple[str, Found, float]]:
    """For each true effect and each mix: its name, what was found, and the trials saved, in %."""
    rng = np.random.default_rng([kind.pilot, len(kind.noise), int(10 * kind.spread)])
    shape = (studies, COMPARISONS)
    alone = np.zeros((5 * studies, COMPARISONS))  # a power near 1 needs many
    alone[:, 0] = 1.0  # found whatever the others are, as the tables' MDE has it
    power = float((_stops(kind, alone, rng)[0].why[:, 0] == DIFFERS).mean())
    fixed = fixed_seeds(kind, power, alone, rng)
    mixes = {f"one 1, others 0 ({power:.1%} against {fixed} seeds)": alone[:studies]}
    mixes |= {f"{effect:g}": np.full(shape, effect) for effect in EFFECTS}
    mixes |= {"evenly mixed": _mix(rng, EVENLY, shape), "as in results": _mix(rng, PACKAGED, shape)}
    for name, effects in mixes.items():
        found = find(kind, effects, rng)
        yield name, found, 100 * (1 - found.trials / (fixed * (COMPARISONS + 1)))


def _mix(rng: np.random.Generator, shares: Sequence[float], shape: tuple[int, int]) -> Array:
    return rng.choice(np.array(EFFECTS), size=shape, p=shares)


def kinds() -> list[Kind]:
    """The studies of which docs/statistics.md tells."""
    typical = {5: 1.0, 10: 1.4}
    made = [Kind(pilot, noise, spread) for pilot, spread in typical.items() for noise in NOISE]
    made += [
        Kind(p, "skewed (a gamma)", spread, skewed_alone=True) for p, spread in typical.items()
    ]
    return [*made, *(Kind(10, "normal", spread) for spread in (0.7, 1.0, 2.0))]


def main(words: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few studies: does it run?")
    smoke = parser.parse_args(words).smoke
    print(
        "| noise | pilot | spread | true difference | false | differs | equivalent | covered"
        " | plain t | seeds | trials saved |"
    )
    print("| :--- | ---: | ---: | :--- |" + " ---: |" * 7)
    for kind in kinds()[:1] if smoke else kinds():
        noise = f"{kind.noise}, baseline normal" if kind.skewed_alone else kind.noise
        for name, found, saved in rows(kind, 5 if smoke else STUDIES):
            shares = (found.false, found.differs, found.equivalent, found.covered, found.plain)
            cells = " | ".join(f"{100 * share:.1f}%" for share in shares)
            head = f"| {noise} | {kind.pilot} | {kind.spread} | {name}"
            print(f"{head} | {cells} | {found.seeds:.1f} | {saved:.0f}% |", flush=True)


if __name__ == "__main__":
    main()
