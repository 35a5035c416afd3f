"""A study over datasets: each method on the datasets that it has, and averages over all of them."""

from collections.abc import Iterator, Mapping

from reports import tables
from reports.charts import vega
from reports.charts.factor import FIGURES, factor_chart
from reports.charts.seeds import axis, limits, marks, mean_points, seed_points
from reports.charts.vega import Chart, Spec
from reports.read import Factor, Study, heading


def dataset_charts(study: Study, metric: str) -> Iterator[Chart | None]:
    """A chart for each factor; beside the datasets', of methods with a result on all of them.

    Args:
        study: over several datasets, with other factors.
        metric: name of the metric, without its split.
    """
    family = tables.method_family(study, metric)
    lines = [group for group in family.groups if not group.arm]
    methods = {tables.spelled(line, family.labels): line for line in lines}
    names, whole = family.datasets, tables.averaged(study)
    lacking = [
        f"{method} on {', '.join(absent)}"
        for method, line in methods.items()
        if (absent := [name for name in names if name not in line.present])
    ]
    told = f"{'; '.join(lacking)}." if lacking else ""
    for factor in study.factors:
        if factor.key == tables.DATASET:
            yield _chart(study, factor, methods, metric, told and f" No result: {told}")
        elif whole:
            without = told and f" In no average, for want of a result: {told}"
            yield factor_chart(whole, factor, metric, arms=False, more=without)


def _chart(
    study: Study, over: Factor, methods: Mapping[str, tables.Group], metric: str, more: str
) -> Chart | None:
    """Each method on each dataset where it has finished: every seed, the mean and its interval."""
    dots: list[Spec] = []
    means: list[Spec] = []
    for name in tables.datasets(study):
        for method, line in methods.items():
            if part := line.parts.get(name):
                at = {"level": name, "method": method}
                dots += [{**at, **dot} for dot in seed_points(study, part, metric)]
                means += [{**at, **mean} for mean in mean_points(part, metric)]
    if not dots:
        return None
    title, head = tables.short_name(study, over), heading(study.protocol, metric)
    y = axis(study, metric, *limits(dots, means, percent=tables.is_percent(metric)))
    dots, some = vega.thinned(dots, "dots")
    encoding = {"x": vega.steps("level", title, dots), "y": y}
    encoding["xOffset"] = {"field": "method", "type": "nominal", "sort": list(methods)}
    if len(methods) <= vega.MOST_NAMED:
        encoding["color"] = vega.named("method", list(methods))
    layers = marks(study, dots, means, encoding, {"level": title, "method": "method"}, head)
    caption = (
        f"Test {head} of {study.name}: each method on each dataset. Each dot is a seed.{some}"
        f" Diamonds are means with 95% intervals.{more}"
    )
    place = (FIGURES, over.key)
    return vega.chart(study, place, title, caption, layers, beside="each method by itself")
