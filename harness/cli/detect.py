"""`ship-sweep --detect POINTS`: gives seeds to those comparisons that are still undecided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.planning import Plan, Setting, StudyOutcome
    from reports.stats import Ending

PILOTS = 6  # of which the most seeds of a setting consist, unless --max-seeds says otherwise
# Factors whose levels are tested on different pictures: they are not compared.
_APART = ("dataset", "unseen_class")
_PERCENT = 100.0
# setting key -> seed -> metric
Values = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Stage:
    """What is wanted of a study now.

    study: with the seeds of each setting.
    lines: what the comparisons have come to, one each; those without enough seeds say nothing.
    finished: whether no comparison wants more seeds.
    """

    study: "StudyConfig"
    lines: tuple[str, ...]
    finished: bool


def run_stages(
    study: "StudyConfig",
    effect: float,
    most: int | None,
    plan: Callable[["StudyConfig"], "Plan"],
    run: Callable[["StudyConfig"], "StudyOutcome"],
    say: Callable[[str], None],
    uri: str | None = None,
) -> "StudyOutcome":
    """Run a study, stage by stage, until each comparison is decided or has had the most seeds.

    Every decision follows from finished rows alone, so that the same call goes on where the last
    one was stopped.

    Args:
        study: its seeds are the pilot's.
        effect: the difference that matters, in points.
        most: seeds of a setting; None: PILOTS times the pilot's.
        plan: what is left of a study.
        run: brings a study about; harness.study.run_study.
        say: told a line for each comparison after each stage.
        uri: of the store; None: that of a run in this folder.

    Returns:
        What the last stage has come to.

    Raises:
        ConfigError: see check_detect.
    """
    check_detect(study, effect, most)
    outcome, last = None, None
    while True:
        stage = next_stage(study, effect, most, plan(study), stored_values(study.name, uri))
        for line in stage.lines if last is None or stage.lines != last.lines else ():
            say(line)
        if outcome is not None and stage == last:  # finished rows without a number to compare
            return outcome
        outcome, last = run(stage.study), stage
        if stage.finished or not outcome.complete:
            return outcome


def staged(
    study: "StudyConfig", effect: float, most: int | None, plan: Callable[["StudyConfig"], "Plan"]
) -> "StudyConfig":
    """The study with the seeds that the next stage would give it; see run_stages."""
    check_detect(study, effect, most)
    return next_stage(study, effect, most, plan(study), stored_values(study.name)).study


def check_detect(study: "StudyConfig", effect: float, most: int | None) -> None:
    """Refuse what --detect cannot be asked of.

    Raises:
        ConfigError: a line for each reason.
    """
    from harness.config import MAX_SEEDS

    pilot = len(study.seeds)
    lines = []
    if not 0 < effect < float("inf"):
        lines.append(f"--detect must be points > 0, got {effect:g}")
    if study.sampler != "grid":
        lines.append(f"--detect needs sampler: grid, got {study.sampler}")
    if study.scheduler.name != "none":
        lines.append(f"--detect needs scheduler: none, got {study.scheduler.name}")
    if len(study.space) != 1 or set(study.space) & set(_APART):
        listed = ", ".join(study.space)
        lines.append(
            f"--detect needs a space of one factor (other than {' and '.join(_APART)}), whose "
            f"levels are compared with its baseline, got {listed}"
        )
    if pilot < 2:
        lines.append("--detect needs seeds to be at least 2: they are its pilot, got 1")
    if most is not None and not pilot <= most <= MAX_SEEDS:
        lines.append(f"--max-seeds must be from {pilot} (seeds) to {MAX_SEEDS}, got {most}")
    if lines:
        raise ConfigError(lines)


def next_stage(
    study: "StudyConfig", effect: float, most: int | None, plan: "Plan", values: Values
) -> Stage:
    """What is to be run next, by what has finished.

    The comparisons with the fewest looks go first; the baseline has all seeds that any has.

    Args:
        study, effect, most: see run_stages.
        plan: of the study; it knows the settings.
        values: of finished rows.
    """
    from harness.config import MAX_SEEDS, Detection
    from reports.contract import PROTOCOLS
    from reports.stats import Design, endings, stages
    from reports.tables import differences, given_out

    (factor,) = study.space
    settings = [*plan.settings, *plan.twins]
    baseline = next(
        s for s in settings if not s.arm and s.assignment[factor] == study.space[factor].baseline
    )
    compared = [setting for setting in settings if setting is not baseline]
    _check_comparisons(len(compared))
    pilot = len(study.seeds)
    looks = stages(pilot, most or min(PILOTS * pilot, MAX_SEEDS))
    design = Design(effect, looks, len(compared))
    seeds = in_order(study.seeds, looks[-1])
    theirs = values.get(baseline.key, {})
    family = [given_out(differences(values.get(one.key, {}), theirs), seeds) for one in compared]
    found = endings(design, family, _PERCENT)
    through = [_looks_through(looks, one) for one in found]
    waiting = [n for n, one in zip(through, found, strict=True) if _goes_on(one) and n < len(looks)]
    now = looks[min(waiting)] if waiting else 0
    own = {
        setting.key: seeds[: max(now if _goes_on(one) else 0, one.seeds if one else 0)]
        for setting, one in zip(compared, found, strict=True)
    }
    own[baseline.key] = seeds[: max(map(len, own.values()), default=pilot)]
    listed = own[baseline.key]
    metric = PROTOCOLS[study.trial.protocol].default
    update = {
        "seeds": listed,
        "own_seeds": {key: one for key, one in own.items() if one != listed},
        "detect": Detection(metric=metric, effect=effect, looks=looks, comparisons=len(compared)),
    }
    lines = [
        _line(setting, baseline, one, last=looks[-1])
        for setting, one in zip(compared, found, strict=True)
        if one is not None
    ]
    return Stage(study.model_copy(update=update), tuple(lines), not waiting)


def in_order(pilot: Sequence[int], most: int) -> tuple[int, ...]:
    """The pilot's seeds, then the smallest numbers that are not among them, `most` in all."""
    taken = set(pilot)
    others = (seed for seed in range(most + len(pilot)) if seed not in taken)
    return (*pilot, *(seed for _, seed in zip(range(most - len(pilot)), others, strict=False)))


def _goes_on(found: "Ending | None") -> bool:
    return found is None or found.decision == "open"


def _looks_through(looks: Sequence[int], found: "Ending | None") -> int:
    """How many looks a comparison has been through."""
    return 0 if found is None else looks.index(found.seeds) + 1


def _check_comparisons(count: int) -> None:
    from reports.stats import MOST_COMPARISONS

    if not 1 <= count <= MOST_COMPARISONS:
        must = f"from 1 to {MOST_COMPARISONS} comparisons with the baseline"
        raise ConfigError([f"--detect needs {must}, got {count}"])


def _line(setting: "Setting", baseline: "Setting", found: "Ending", last: int) -> str:
    """E.g. "n_ctx=8 against n_ctx=4: -0.20 [-0.70, 0.30], equivalent after 10 seeds"."""
    low, high = found.difference.low, found.difference.high
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    words = {
        "constant": "does not vary, left at",
        "open": "undecided after" if found.seeds == last else "open after",
    }.get(found.decision, f"{found.decision} after")
    mean = f"{found.difference.mean:.2f}"
    return (
        f"{setting.label} against {baseline.label}: {mean}{interval}, {words} {found.seeds} seeds"
    )


def stored_values(study_name: str, uri: str | None = None) -> Values:
    """The finished rows of a study, {} without any; uri None: the store of a run in this folder."""
    from harness.store import default_uri
    from reports.contract import ReportError
    from reports.tables import load_values

    try:
        return load_values(study_name, uri or default_uri(Path.cwd()))
    except ReportError:  # no store, no such study, or nothing finished; a run says what is wrong
        return {}
