"""python -m tests.bench.bench_answers [--smoke]: rate of false claims in answers.

Studies of several shapes are simulated, from their runs to the answer. tests.reports.answer.claims
compares each sentence with the runs and the true effects. "warned" is the share of studies with a
warning about uneven noise. It takes six minutes on one core.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.answer import Answer
from reports.report import make_report
from tests.reports.analysis.planted import METRIC
from tests.reports.answer.claims import check_answer
from tests.reports.answer.known_study import Claims, KnownStudy
from tests.reports.builder import StoreBuilder

Array = npt.NDArray[np.float64]
KEYS = ("generator.kl_weight", "generator.n_ctx")
NAMES = ("base", "new", METRIC, "joint_base", "joint_new", "joint_harmonic_mean")
SEED_SD, NOISE_SD, EFFECT = 1.5, 0.7, 2.0  # points of H
PROMISES = (
    "different", "equivalent", "significant", "depends", "share", "no headroom",
    "warned",
)  # fmt: skip
Noise = Callable[[np.random.Generator, Sequence[int]], Array]


def draw_normal(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Draw normal noise."""
    return rng.normal(0, NOISE_SD, shape)


def draw_skewed(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Draw exponential noise, with a loss of 5 points in one trial of twenty."""
    return rng.exponential(NOISE_SD, shape) - 5.0 * (rng.random(shape) < 0.05)


def make_grid(
    rng: np.random.Generator, *, noise: Noise = draw_normal, dead: Sequence[int] = (),
    tied: bool = False, lost: float = 0.0,
) -> KnownStudy:  # fmt: skip
    """Simulate a grid of one or two factors, in which n_ctx has an effect in half of the studies.

    Args:
        rng: Random generator of everything.
        noise: Distribution of the noise of a trial.
        dead: Indices of factors whose levels all have the same results. If there are any, all
            posteriors collapse.
        tied: Whether the first two levels of each factor have the same results. Selection scores
            are then rounded to points, so that they tie.
        lost: Probability that a trial is missing. Half of it is the probability that a
            configuration fails.
    """
    sizes = [int(n) for n in rng.integers(2, 5, 1 if rng.random() < 0.25 and not dead else 2)]
    keys, seeds = KEYS[2 - len(sizes) :], int(rng.integers(3, 7))
    effects = rng.permutation(np.linspace(0, EFFECT, sizes[-1])) * (rng.random() < 0.5)
    # index of the level whose results each level has
    sources = [np.arange(n) * (i not in dead) for i, n in enumerate(sizes)]
    if tied:
        sources = [np.maximum(levels - 1, 0) for levels in sources]
    effects = effects[sources[-1]]
    results = noise(rng, (*sizes, seeds)) + rng.normal(60, SEED_SD, seeds)
    factors = [
        {"key": key, "levels": list(range(n)), "log": False, "baseline": int(rng.integers(n))}
        for key, n in zip(keys, sizes, strict=True)
    ]
    builder = StoreBuilder(name="made", factors=factors, seeds=range(seeds), n_trials=None)
    for cell in product(*map(range, sizes)):
        values = results[tuple(levels[i] for levels, i in zip(sources, cell, strict=True))]
        values = values + effects[cell[-1]]
        finished_seeds = [s for s in range(seeds) if rng.random() >= lost]
        state = "FAIL" if rng.random() < lost / 2 else "COMPLETE"
        _add_run(
            builder,
            dict(zip(keys, cell, strict=True)),
            values,
            finished_seeds,
            tied,
            bool(dead),
            state,
        )
    controls: dict[str, float] = {}
    if not (dead or tied or lost) and rng.random() < 0.5:
        controls = {
            "no_synthetic": rng.choice([0.0, -3.0]),
            "real_images": rng.choice([-0.5, 0, 3]),
        }
        for control, gap in controls.items():
            base = [factor["baseline"] for factor in factors]
            values = results.mean(axis=tuple(range(len(sizes)))) + effects[base[-1]] + gap
            values = values + noise(rng, (seeds,)) - noise(rng, (4_000,)).mean()
            _add_run(builder, {}, values, range(seeds), control=control)

    def truth(assignment: Mapping[str, Any]) -> float:
        return float(effects[assignment.get(KEYS[1], 0)])

    return KnownStudy(builder, truth, controls)


def make_pruned_study(rng: np.random.Generator) -> KnownStudy:
    """Simulate a TPE study in which only the better trials finish, and a control was stopped."""
    ranges, configurations, seeds = int(rng.choice([2, 4])), int(rng.integers(8, 25)), 3
    slope = EFFECT * 2 * (rng.random() < 0.5)
    factors = [
        {"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in range(ranges)
    ]
    builder = StoreBuilder(
        name="made", factors=factors, seeds=range(seeds), sampler="tpe", n_trials=configurations
    )
    seed_effects = rng.normal(60, SEED_SD, seeds)
    points = rng.random((configurations, ranges))
    values = slope * points[:, :1] + seed_effects + draw_normal(rng, (configurations, seeds))
    finish = int(rng.integers(1, configurations + 1 if rng.random() < 0.3 else 7))
    best = np.argsort(-values.mean(axis=1) - rng.normal(0, 1, configurations))[:finish]
    for index, point in enumerate(points):
        state = "COMPLETE" if index in best else "PRUNED"
        assignment = {f"x{i}": float(x) for i, x in enumerate(point)}
        _add_run(builder, assignment, values[index], range(seeds), state=state)
    _add_run(builder, {}, seed_effects, range(seeds), state="PRUNED", control="real_images")
    return KnownStudy(builder, lambda assignment: slope * assignment.get("x0", 0.0))


def _add_run(
    builder: StoreBuilder, assignment: Mapping[str, Any], values: Array, seeds: Sequence[int],
    tied: bool = False, collapsed: bool = False, state: str = "COMPLETE", control: str = "",
) -> None:  # fmt: skip
    """Add a run of some seeds, or a planned configuration if there are no seeds."""
    if not seeds:
        builder.add_planned(assignment)
        return
    results = {s: dict.fromkeys(NAMES, float(values[s])) for s in seeds}
    chosen = dict.fromkeys(NAMES, float(np.round(values.mean()))) if tied else None
    flags = {"posterior_collapse": list(seeds)} if collapsed else None
    builder.add_run(assignment, results, state=state, control=control, selected=chosen, flags=flags)


SHAPES: dict[str, Callable[[np.random.Generator], KnownStudy]] = {
    "normal": make_grid,
    "skewed": lambda rng: make_grid(rng, noise=draw_skewed),
    "collapsed": lambda rng: make_grid(rng, dead=(0, 1)),
    "a dead factor": lambda rng: make_grid(rng, dead=(0,)),
    "tied levels": lambda rng: make_grid(rng, tied=True),
    "pruned": make_pruned_study,
    "incomplete": lambda rng: make_grid(rng, lost=0.15),
}


def make_answer(known: KnownStudy) -> Answer:
    """Return the answer of a study's report."""
    return make_report(known.builder.make_study()).answer


def count_wrong_answers(shape: str, studies: int, seed: int, shown: int = 0) -> tuple[int, Claims]:
    """Simulate studies, and check their answers.

    Args:
        shape: Key of SHAPES.
        studies: Number of studies.
        seed: Seed of all draws.
        shown: Number of answers to print.

    Returns:
        Number of studies with a false factual sentence, and all claims.
    """
    rng, claims, wrong = np.random.default_rng(seed), Claims(), 0
    for index in range(studies):
        known, before = SHAPES[shape](rng), len(claims.facts)
        answer = make_answer(known)
        check_answer(known, answer, claims)
        wrong += len(claims.facts) > before
        if index < shown:
            print("\n".join(answer.lines), end="\n\n")
    return wrong, claims


def main(words: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few studies, as a smoke test")
    parser.add_argument("--studies", type=int, default=2_000, help="studies per shape")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="only these shapes")
    parser.add_argument("--show", type=int, default=0, help="answers to print per shape")
    options = parser.parse_args(words)
    start = time.process_time()
    print(f"| shape | studies | no false fact | {' | '.join(PROMISES)} |")
    print(f"| :--- {'| ---: ' * (2 + len(PROMISES))}|")
    for shape in options.shape or SHAPES:
        studies = 2 if options.smoke else options.studies
        wrong, claims = count_wrong_answers(shape, studies, list(SHAPES).index(shape), options.show)
        cells = [
            f"{100 * claims.false[kind] / count:.1f}%"
            if (count := claims.families.get(kind))
            else "–"
            for kind in PROMISES
        ]
        share = f"{100 * (1 - wrong / studies):.2f}%"
        print(f"| {shape} | {studies:,} | {share} | {' | '.join(cells)} |", flush=True)
        for fact in claims.facts[:10]:
            print(f"false: {fact}")
    print(f"\n{time.process_time() - start:.0f} s of one core")


if __name__ == "__main__":
    main()
