"""What a study's own run in MLflow shows of its report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

REPORT: Final = "report"  # the folder of its files among the run's artifacts


@dataclass(frozen=True)
class Publication:
    """A report as the study's own run shows it.

    metrics: by key, all under HEADLINE.
    params: the settings that all of the study's settings share, as text by dotted name.
    best: the setting that selection prefers, in words; "" where it prefers none.
    note: Markdown, of any length.
    answer: the answer and the description alone, for MLflow's list of experiments.
    page: which of the files is the page to open.
    stamp: of what the files are made of: equal stamps, equal files.
    files: makes them: name -> content.
    """

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    best: str
    note: str
    answer: str
    page: str
    stamp: str
    files: Callable[[], Mapping[str, bytes]]
