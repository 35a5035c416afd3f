"""Tables in each format, and whole reports, against committed pages (see check_golden)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.render.files import text_of
from reports.render.latex import latex
from reports.render.plain import csv_text, markdown
from reports.render.terminal import terminal_text
from reports.report import make_report
from reports.tables.model import Table
from tests.reports import accidents, cases
from tests.reports.analysis.planted import drawn, grid
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.pages import check_golden, collapsed, eventful, shortened, torn
from tests.reports.studies import (
    collapsing,
    cross_dataset,
    few_shot,
    leveled,
    over_datasets,
)

GOLDEN = Path(__file__).parent / "golden"

_FORMS: dict[str, Callable[[list[Table]], str]] = {
    "-80.txt": lambda tables: terminal_text(tables, 80),
    "-100.txt": lambda tables: terminal_text(tables, 100),
    "-140.txt": lambda tables: terminal_text(tables, 140),
    ".md": markdown,
    ".tex": latex,
    ".csv": lambda tables: shortened("".join(csv_text(table) for table in tables)),
}


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("name", ["eventful", "torn", "collapsed"])
def test_golden_page(name: str, form: str) -> None:
    """Every kind of accident, cells without results, and flags, in every format and width."""
    made = {"eventful": eventful, "torn": torn, "collapsed": collapsed}[name]()
    check_golden(GOLDEN / f"{name}{form}", _FORMS[form](made))


# name -> a study, and what make_report is asked for
REPORTS: dict[str, tuple[Callable[[], StoreBuilder], dict[str, Any]]] = {
    "packaged": (prompt_len, {}),
    "packaged-joint-new": (prompt_len, {"metric": "joint_new"}),
    "packaged-one-seed": (lambda: prompt_len(seeds=(0,)), {}),
    "packaged-weakened": (accidents.weakened, {}),
    "packaged-another-backbone": (lambda: prompt_len(demonstration=False), {}),
    "baseline-failed": (lambda: accidents.state(leveled({4: 55.0, 8: 57.0}), slice(1), "FAIL"), {}),
    "all-the-same": (lambda: leveled(dict.fromkeys((4, 8, 16), 55.0)), {}),
    "no-spread": (lambda: leveled({4: 55.0, 8: 57.0}, seeds=3, by_seed=0), {}),
    "no-factors": (lambda: StoreBuilder(factors=()).trial({}, {0: scores(55.0)}), {}),
    "few-shot": (few_shot, {}),
    "cross-dataset": (lambda: cross_dataset(("dtd", "caltech101"), (4, 16)), {}),
    "cross-dataset-dtd-untested": (
        lambda: accidents.without(cross_dataset(), "test/accuracy/dtd"), {"metric": "accuracy/dtd"},
    ),
    "cross-dataset-other-targets": (cases.other_targets, {}),
    "generalized-cosine": (collapsing, {"metric": "quality/cosine_to_mean"}),
    "generalized-not-calibrated": (accidents.not_calibrated, {}),
    "generalized-on-test": (lambda: accidents.selecting(collapsing(), ["test"]), {}),
    "single-unseen": (lambda: collapsing("single_unseen"), {}),
    "grid": (cases.grid_of_two, {}),
    "grid-one-failed": (lambda: accidents.state(cases.grid_of_two(), slice(3, 4), "FAIL"), {}),
    "grid-effects-depend": (cases.depending, {}),
    "grid-of-three": (lambda: grid((2, 3, 2), lambda s: 2.0 * s["f1"] + s["f0"]), {}),
    "grid-with-a-gap": (accidents.with_gap, {}),
    "conditional-factor": (cases.conditional, {}),
    "sampled": (cases.sampled, {}),
    "sampled-few-finished": (accidents.few_finished, {}),
    "sampled-unfinished": (lambda: cases.unfinished(12), {}),
    "sampled-all-but-one": (lambda: cases.unfinished(9), {}),
    "sampled-all-the-same": (lambda: accidents.all_alike(drawn(2, 8, lambda s: 0.0)), {}),
    "path": (cases.with_path, {}),
    "path-over-datasets": (accidents.path_over_datasets, {}),
    "seeds-until-decided": (cases.stopped, {}),
    "seeds-until-decided-base": (cases.stopped, {"metric": "base"}),
    "seeds-until-decided-narrowly": (cases.narrowly_different, {}),
    "seeds-until-decided-some-open": (cases.undecided, {}),
    "seeds-until-decided-many-levels": (cases.stopped_of_many, {}),
    "searched-at-inference": (cases.searched, {}),
    "not-searched": (accidents.not_searched, {}),
    "few-val": (lambda: cases.searched(selection="few_val"), {}),
    "authors-rule": (lambda: cases.searched(selection="reference"), {}),
    "nothing-selected": (accidents.unselected, {}),
    "rules-compared": (accidents.rules_compared, {}),
    "published": (cases.published, {"published": True}),
    "open-world": (cases.measured_open_world, {"metric": "openworld_auc"}),
    "quality-followed": (cases.quality_followed, {}),
    "datasets-alone": (cases.datasets_alone, {}),
    "datasets-times-two": (cases.datasets_times_two, {}),
    "many-flagged": (accidents.many_flagged, {}),
    "datasets": (over_datasets, {}),
    # test would take the other factor first; a way that is not there; one that is; none
    "path-of-selection": (lambda: accidents.between(
        {"00": (50.0, 40.0), "01": (58.0, 41.0), "10": (51.0, 43.0), "11": (57.0, 44.0)}
    ), {}),
    "path-over-a-gap": (lambda: accidents.between({"00": (50.0, 40.0), "11": (57.0, 44.0)}), {}),
    "path-one-way": (lambda: accidents.between(
        {"00": (50.0, 40.0), "01": (49.0, 39.0), "11": (57.0, 44.0)}
    ), {}),
    "path-of-no-steps": (lambda: accidents.between({"00": (50.0, 45.0), "11": (57.0, 44.0)}), {}),
    "swinging": (accidents.swinging, {}),
    "half-active": (accidents.half_active, {}),
    "confounded": (accidents.confounded, {}),
    "classes-of-their-own": (accidents.classes_of_their_own, {}),
    "lost-seeds": (accidents.lost_seeds, {}),
    "path-that-activates": (accidents.activating, {}),
    "baseline-alone": (accidents.baseline_alone, {}),
    "one-equivalent": (lambda: cases.shifted({0.1: 0.0}), {}),
    "all-equivalent": (lambda: cases.shifted({0.1: 0.0, 10: 0.1}), {}),
    "one-decided": (lambda: cases.shifted({0.1: 0.0, 10: -8.0}), {}),
    "one-open": (lambda: cases.shifted({0.1: 0.0, 10: -1.6}), {}),
    "smaller-effect": (lambda: cases.shifted({10: -1.6}, config={"smallest_effect": 0.5}), {}),
    "tied": (lambda: cases.grid_of(lambda kl, n_ctx, s: 50.0 + s), {}),
    "cancelling": (accidents.cancelling, {}),
    "collapsed": (lambda: cases.grid_of(cases.of_n_ctx, (0, 1, 2)), {}),
    "collapsed-elsewhere": (
        lambda: cases.grid_of(cases.of_n_ctx, (0, 1, 2), "finetuner.alpha"), {},
    ),
    "collapsed-in-part": (lambda: cases.grid_of(cases.of_n_ctx, (1, 2)), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_golden_report(name: str) -> None:
    """Answer, tables and notes of a study of each kind."""
    builder, asked = REPORTS[name]
    check_golden(
        GOLDEN / f"reports/{name}.md", text_of("markdown", make_report(builder().study(), **asked))
    )
