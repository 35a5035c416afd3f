"""Every chart of a study's page, in reading order."""

from collections.abc import Iterator
from dataclasses import dataclass

from reports.analysis import Analysis
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
    together = _together(analysis, part) if part else ()
    settings = _settings(analysis, part) if part else ()
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
    metric = analysis.metric
    if analysis.importance and (made := importance_chart(study, analysis.importance)):
        yield made
    if analysis.path and (made := path_chart(study, analysis.path)):
        yield made
    yield from interaction_charts(study, analysis.interactions or (), metric)
    yield from dependence_charts(study, analysis.dependence or (), metric)
    if made := parallel_chart(study, metric):
        yield made


def _training(analysis: Analysis) -> Iterator[Chart]:
    if analysis.curves and (made := curves_chart(analysis.study, analysis.curves)):
        yield made
    if analysis.budget and (made := budget_chart(analysis.study, analysis.budget)):
        yield made


def _settings(analysis: Analysis, study: Study) -> Iterator[Chart]:
    if analysis.costs and (made := cost_chart(study, analysis.costs, analysis.metric)):
        yield made
    yield from quality_charts(study, analysis.metric)
