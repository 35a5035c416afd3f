"""Made-up studies that stand in YAML, run by run: the files of tests/reports/listed."""

from typing import Any

from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, scores


def listed(name: str, **fields: Any) -> StoreBuilder:
    """The study of a file; `fields` of the builder stand above the file's.

    A run has `at`, its assignment; `new` and `base`, accuracies of its seeds 0, 1, ..., or `h`,
    which all measures are; `also`, further metrics of each seed; `cost`, metrics of the whole run;
    and what else StoreBuilder.trial takes.
    """
    file = load_cases(__file__, f"listed/{name}.yaml")
    runs, lacking = file.pop("runs"), file.pop("lacking", ())
    seeds = range(file.pop("seeds"))
    builder = StoreBuilder(**{"seeds": seeds, **file, **fields})
    for run in runs:
        at, cost = run.pop("at"), run.pop("cost", {})
        builder.trial(at, _results(run), **run)
        builder.runs[-1].metrics.update(cost)
    for assignment in lacking:
        builder.want(assignment)
    return builder


def _results(run: dict[str, Any]) -> dict[int, dict[str, float]]:
    """Takes the numbers out of a run: seed -> its metrics."""
    also, h = run.pop("also", {}), run.pop("h", [])
    new = run.pop("new", h)
    base = run.pop("base", [70.0] * len(new))
    metrics = {s: scores(*pair) for s, pair in enumerate(zip(new, base, strict=True))}
    for s, value in enumerate(h):
        metrics[s] = {name: value - 5 * name.startswith("joint") for name in metrics[s]}
    for metric, values in also.items():
        for s, value in enumerate(values):
            metrics.setdefault(s, {})[metric] = value
    return metrics
