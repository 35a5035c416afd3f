"""Every chart of a study's page, in reading order."""

from collections.abc import Iterator
from dataclasses import dataclass

from reports.analysis import Analysis, Unavailable
from reports.charts.factor import factor_charts
from reports.charts.importance import importance_chart, path_chart
from reports.charts.model import Chart
from reports.charts.parallel import parallel_chart
from reports.charts.settings import cost_chart, quality_charts
from reports.charts.together import dependence_charts, interaction_charts
from reports.charts.training import budget_chart, curves_chart
from reports.read import Study

FIGURES = "figures"  # the section of the factors' charts


@dataclass(frozen=True)
class Section:
    """Charts that stand together. name: of their part of the page."""

    name: str
    charts: tuple[Chart, ...]


def study_charts(analysis: Analysis) -> list[Section]:
    """The charts of a study, those sections left out that have none.

    Args:
        analysis: of the study; over datasets, of its averages.
    """
    study, metric, part = analysis.study, analysis.metric, analysis.subject
    comparable = None if isinstance(part, Unavailable) else part
    together = _together(analysis, comparable) if comparable else ()
    settings = _settings(analysis, comparable) if comparable else ()
    found = [
        Section(FIGURES, tuple(factor_charts(study, metric))),
        Section("together", tuple(together)),
        Section("training", tuple(_training(analysis))),
        Section("settings", tuple(settings)),
    ]
    return [section for section in found if section.charts]


def _together(analysis: Analysis, study: Study) -> Iterator[Chart]:
    if len(study.factors) < 2:
        return
    shares, path, metric = analysis.importance, analysis.path, analysis.metric
    if not isinstance(shares, Unavailable) and (made := importance_chart(study, shares)):
        yield made
    if not isinstance(path, Unavailable) and (made := path_chart(study, path)):
        yield made
    if not isinstance(analysis.interactions, Unavailable):
        yield from interaction_charts(study, analysis.interactions, metric)
    if not isinstance(analysis.dependence, Unavailable):
        yield from dependence_charts(study, analysis.dependence, metric)
    if made := parallel_chart(study, metric):
        yield made


def _training(analysis: Analysis) -> Iterator[Chart]:
    curves, budget = analysis.curves, analysis.budget
    if not isinstance(curves, Unavailable) and (made := curves_chart(analysis.study, curves)):
        yield made
    if not isinstance(budget, Unavailable) and (made := budget_chart(analysis.study, budget)):
        yield made


def _settings(analysis: Analysis, study: Study) -> Iterator[Chart]:
    costs, metric = analysis.costs, analysis.metric
    if not isinstance(costs, Unavailable) and (made := cost_chart(study, costs, metric)):
        yield made
    yield from quality_charts(study, metric)
