"""How planning grows with a study: `python -m tests.bench.bench_plan [SETTINGS ...]`.

Half of the settings are finished, the others failed for some of their seeds, so that each question
about a row is asked. Where the time for a setting stays the same, nothing scans all rows for each.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.study_config import StudyConfig
from harness.planning.comparison import compare
from harness.planning.estimate import seconds_a_seed
from harness.planning.fingerprints import Fingerprints
from harness.planning.outcome import outcome_of
from harness.planning.plan import make_plan
from harness.planning.settings import Setting, SettingMaker
from harness.store.ledger import Ledger, LedgerRun
from harness.store.study_run import Recorded, Wanted
from reports.contract import Failure, State
from tests.bench.timing import timed
from tests.harness.fakes import make_method, make_study

SIZES = (400, 1_600, 10_000)
SEEDS = 10


@dataclass(frozen=True)
class Planned:
    """Seconds that a study of so many settings takes.

    settings_s: resolving its settings and giving them their keys, with an empty ledger.
    plan_s: its plan, with a ledger that has a run for each setting, and what the plan comes to.
    changed_s: the plan of the same study with another constant, and what that takes out.
    """

    settings: int
    settings_s: float
    plan_s: float
    changed_s: float

    def line(self) -> str:
        """For people."""
        parts = (
            ("empty ledger", self.settings_s),
            ("plan", self.plan_s),
            ("another constant", self.changed_s),
        )
        told = "; ".join(
            f"{name} {s:8.3f} s, {1e3 * s / self.settings:6.3f} ms a setting" for name, s in parts
        )
        return f"{self.settings:6} settings x {SEEDS} seeds: {told}"


def study_of(settings: int, shots: int = 16) -> StudyConfig:
    """A grid of so many settings, which is a multiple of 20."""
    space = {
        "generator.kl_weight": [(n + 1) / 10_000 for n in range(settings // 20)],
        "generator.n_ctx": list(range(1, 21)),
    }
    return make_study(space=space, seeds=SEEDS, shots=shots)


def run_of(number: int, setting: Setting) -> LedgerRun:
    """A run of all seeds; every second one failed for want of memory."""
    failed = bool(number % 2)
    return LedgerRun(
        run_id=str(number),
        setting_key=setting.key,
        arm=setting.arm,
        assignment=dict(setting.assignment),
        seeds=tuple(range(SEEDS - 1 if failed else SEEDS)),
        state=State.FAIL if failed else State.COMPLETE,
        failure=Failure.OUT_OF_MEMORY if failed else None,
        reason="out of memory" if failed else "",
        objective={} if failed else {seed: 50.0 + seed for seed in range(SEEDS)},
        seconds=None if failed else 10.0,
        started=number,
        device="cpu",
        params={"shots": "16"},
    )


def measure(settings: int, folder: Path) -> Planned:
    """Plan a study of so many settings three times."""
    prints = Fingerprints(make_method(folder / "log"), None, folder)
    study, edited = study_of(settings), study_of(settings, shots=4)
    empty_s, first = timed(lambda: make_plan(study, Ledger(), prints))
    runs = tuple(run_of(number, setting) for number, setting in enumerate(first.settings))
    wanted = tuple(Wanted(one.key, one.assignment, one.arm) for one in first.settings)
    factors = {key: factor.choices for key, factor in study.space.items()}
    recorded = Recorded(wanted, frozenset(range(SEEDS)), factors)

    def planned(asked: StudyConfig) -> None:
        ledger = Ledger(runs, recorded.keys)
        plan = make_plan(asked, ledger, prints)
        compare(asked, plan, ledger, recorded, SettingMaker(asked, prints))
        outcome_of(plan, "bench", "sqlite://", interrupted=False, ran=False)
        seconds_a_seed([run for run in ledger.runs if run.seconds])

    plan_s, _ = timed(lambda: planned(study))
    changed_s, _ = timed(lambda: planned(edited))
    return Planned(settings, empty_s, plan_s, changed_s)


def planning(sizes: Sequence[int]) -> Iterator[Planned]:
    """One row a size."""
    with tempfile.TemporaryDirectory() as folder:
        for settings in sizes:
            yield measure(settings, Path(folder))


def main(words: Sequence[str] = ()) -> None:
    """Print a row a size, those of SIZES or those that are given."""
    for row in planning([int(size) for size in words or sys.argv[1:]] or SIZES):
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
