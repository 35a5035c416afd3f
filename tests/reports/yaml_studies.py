"""Simulated studies that are defined in YAML, run by run: tests/reports/yaml_studies/*.yaml."""

from typing import Any

from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, make_scores


def load_yaml_study(name: str, **fields: Any) -> StoreBuilder:
    """Build the study that a YAML file defines.

    The keys of the file are fields of StoreBuilder, and

    - `seeds`: number of seeds,
    - `missing`: assignments that are planned and have no run,
    - `runs`: the runs. Each has the arguments of StoreBuilder.add_run, and instead of `results`

        - `at`: its assignment,
        - `new` and `base`: accuracies of the seeds 0, 1, ..., or `h`: the value of all metrics,
        - `also`: further metrics, with a value per seed,
        - `cost`: metrics of the whole run.

    Args:
        name: Name of the file, without .yaml.
        fields: Fields of StoreBuilder. They override those of the file.
    """
    file = load_cases(__file__, f"yaml_studies/{name}.yaml")
    runs, missing = file.pop("runs"), file.pop("missing", ())
    seeds = range(file.pop("seeds"))
    builder = StoreBuilder(**{"seeds": seeds, **file, **fields})
    for run in runs:
        assignment, cost = run.pop("at"), run.pop("cost", {})
        results = _pop_results(run)
        builder.add_run(assignment, results, **run)
        builder.runs[-1].metrics.update(cost)
    for assignment in missing:
        builder.add_planned(assignment)
    return builder


def _pop_results(run: dict[str, Any]) -> dict[int, dict[str, float]]:
    """Remove the numbers from a run, and return the metrics of each seed."""
    further_metrics, h = run.pop("also", {}), run.pop("h", [])
    new = run.pop("new", h)
    base = run.pop("base", [70.0] * len(new))
    metrics = {s: make_scores(*pair) for s, pair in enumerate(zip(new, base, strict=True))}
    for s, value in enumerate(h):
        metrics[s] = {name: value - 5 * name.startswith("joint") for name in metrics[s]}
    for name, values in further_metrics.items():
        for s, value in enumerate(values):
            metrics.setdefault(s, {})[name] = value
    return metrics
