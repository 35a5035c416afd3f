"""python -m tests.bench.bench_answers [--smoke]: how often an answer says what is not so.

Made-up studies of several shapes, from their runs to the answer; tests.reports.answer.claims holds
each sentence against the runs and the true effects; "warned" counts studies whose noise looks
uneven. Takes six minutes of one core.
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


def bell(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Normal noise."""
    return rng.normal(0, NOISE_SD, shape)


def skewed(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Noise with a long tail upwards, and one trial in twenty that falls by 5 points."""
    return rng.exponential(NOISE_SD, shape) - 5.0 * (rng.random(shape) < 0.05)


def grid(
    rng: np.random.Generator, *, noise: Noise = bell, dead: Sequence[int] = (), tied: bool = False,
    lost: float = 0.0,
) -> KnownStudy:  # fmt: skip
    """A grid of one or two factors, of which n_ctx has an effect in half of the studies.

    Args:
        rng: draws everything.
        noise: of a trial.
        dead: places of factors of which no level changes anything; all posteriors collapse there.
        tied: whether the first two levels of each factor give the same results, and selection sees
            whole points, so that scores tie.
        lost: share of trials that are missing, and of settings that fail.
    """
    sizes = [int(n) for n in rng.integers(2, 5, 1 if rng.random() < 0.25 and not dead else 2)]
    keys, seeds = KEYS[2 - len(sizes) :], int(rng.integers(3, 7))
    effects = rng.permutation(np.linspace(0, EFFECT, sizes[-1])) * (rng.random() < 0.5)
    kept = [np.arange(n) * (i not in dead) for i, n in enumerate(sizes)]
    if tied:
        kept = [np.maximum(levels - 1, 0) for levels in kept]
    effects = effects[kept[-1]]
    drawn = noise(rng, (*sizes, seeds)) + rng.normal(60, SEED_SD, seeds)
    factors = [
        {"key": key, "levels": list(range(n)), "log": False, "baseline": int(rng.integers(n))}
        for key, n in zip(keys, sizes, strict=True)
    ]
    builder = StoreBuilder(name="made", factors=factors, seeds=range(seeds), n_trials=None)
    for cell in product(*map(range, sizes)):
        values = drawn[tuple(levels[i] for levels, i in zip(kept, cell, strict=True))]
        values = values + effects[cell[-1]]
        finished_seeds = [s for s in range(seeds) if rng.random() >= lost]
        state = "FAIL" if rng.random() < lost / 2 else "COMPLETE"
        _add(
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
            values = drawn.mean(axis=tuple(range(len(sizes)))) + effects[base[-1]] + gap
            values = values + noise(rng, (seeds,)) - noise(rng, (4_000,)).mean()
            _add(builder, {}, values, range(seeds), control=control)

    def truth(assignment: Mapping[str, Any]) -> float:
        return float(effects[assignment.get(KEYS[1], 0)])

    return KnownStudy(builder, truth, controls)


def pruned(rng: np.random.Generator) -> KnownStudy:
    """Random configurations; the better ones finish, in some studies few. A control was stopped."""
    ranges, configurations, seeds = int(rng.choice([2, 4])), int(rng.integers(8, 25)), 3
    slope = EFFECT * 2 * (rng.random() < 0.5)
    factors = [
        {"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in range(ranges)
    ]
    builder = StoreBuilder(
        name="made", factors=factors, seeds=range(seeds), sampler="tpe", n_trials=configurations
    )
    of_seed = rng.normal(60, SEED_SD, seeds)
    drawn = rng.random((configurations, ranges))
    values = slope * drawn[:, :1] + of_seed + bell(rng, (configurations, seeds))
    finish = int(rng.integers(1, configurations + 1 if rng.random() < 0.3 else 7))
    best = np.argsort(-values.mean(axis=1) - rng.normal(0, 1, configurations))[:finish]
    for place, row in enumerate(drawn):
        state = "COMPLETE" if place in best else "PRUNED"
        assignment = {f"x{i}": float(x) for i, x in enumerate(row)}
        _add(builder, assignment, values[place], range(seeds), state=state)
    _add(builder, {}, of_seed, range(seeds), state="PRUNED", control="real_images")
    return KnownStudy(builder, lambda assignment: slope * assignment.get("x0", 0.0))


def _add(
    builder: StoreBuilder, assignment: Mapping[str, Any], values: Array, seeds: Sequence[int],
    tied: bool = False, collapsed: bool = False, state: str = "COMPLETE", control: str = "",
) -> None:  # fmt: skip
    """A run of some seeds, or a setting that has none."""
    if not seeds:
        builder.add_planned(assignment)
        return
    results = {s: dict.fromkeys(NAMES, float(values[s])) for s in seeds}
    chosen = dict.fromkeys(NAMES, float(np.round(values.mean()))) if tied else None
    flags = {"posterior_collapse": list(seeds)} if collapsed else None
    builder.add_run(assignment, results, state=state, control=control, selected=chosen, flags=flags)


SHAPES: dict[str, Callable[[np.random.Generator], KnownStudy]] = {
    "normal": grid,
    "skewed": lambda rng: grid(rng, noise=skewed),
    "collapsed": lambda rng: grid(rng, dead=(0, 1)),
    "a dead factor": lambda rng: grid(rng, dead=(0,)),
    "tied levels": lambda rng: grid(rng, tied=True),
    "pruned": pruned,
    "incomplete": lambda rng: grid(rng, lost=0.15),
}


def answered(known: KnownStudy) -> Answer:
    """The answer of a study, by the code that makes reports."""
    return make_report(known.builder.make_study()).answer


def judged(shape: str, studies: int, seed: int, shown: int = 0) -> tuple[int, Claims]:
    """How many studies of a shape have a false sentence of fact, and what they claim.

    Args:
        shape: of SHAPES.
        studies: how many.
        seed: of all draws.
        shown: of how many the answer is printed.
    """
    rng, claims, wrong = np.random.default_rng(seed), Claims(), 0
    for place in range(studies):
        known, before = SHAPES[shape](rng), len(claims.facts)
        answer = answered(known)
        check_answer(known, answer, claims)
        wrong += len(claims.facts) > before
        if place < shown:
            print("\n".join(answer.lines), end="\n\n")
    return wrong, claims


def main(words: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few studies: does it run?")
    parser.add_argument("--studies", type=int, default=2_000, help="of each shape")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="only these")
    parser.add_argument("--show", type=int, default=0, help="answers to print of each shape")
    options = parser.parse_args(words)
    started = time.process_time()
    print(f"| shape | studies | no false fact | {' | '.join(PROMISES)} |")
    print(f"| :--- {'| ---: ' * (2 + len(PROMISES))}|")
    for shape in options.shape or SHAPES:
        studies = 2 if options.smoke else options.studies
        wrong, claims = judged(shape, studies, list(SHAPES).index(shape), options.show)
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
    print(f"\n{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
