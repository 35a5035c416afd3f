"""A store is untrusted input: any text in it gives a report, or an error of one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.store import PROTOCOLS, Run, Tag
from reports.errors import ReportError
from reports.render.files import format_report, make_file_name, write_report
from reports.report import make_report
from reports.study.load import build_study_from_runs
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.pages import ParsedPage, render_study_page
from tests.reports.studies import make_factors

HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[bold]x[/bold]", "[/red]",
    ":cat:", "$\\frac$", "$x", "\x1b[2J", "../../../x", "{{x}}", "\\input{x}", "`x`", "'\"><b>",
)  # fmt: skip


def make_hostile_study() -> StoreBuilder:
    """Build a study whose texts are markup, escape sequences, paths and templates."""
    builder = StoreBuilder(
        name="../../<b>study</b>",
        factors=make_factors("../../factor<i>", list(HOSTILE), HOSTILE[0]),
        seeds=(0, 1),
    )
    for position, level in enumerate(HOSTILE):
        results = {seed: make_scores(60 + position + seed) for seed in (0, 1)}
        builder.add_run({"../../factor<i>": level}, results)
    builder.add_run({"../../factor<i>": "x"}, {0: make_scores(1)}, state="FAIL", reason=HOSTILE[0])
    return builder


def test_a_page_has_no_element_from_a_text() -> None:
    """Markup in labels is shown as text."""
    text = render_study_page(make_hostile_study())
    parser = ParsedPage(text)
    assert not set(parser.tags) & {"img", "b", "i"}
    # The page's scripts are Vega, the specifications of the charts, and its own code.
    assert parser.tags.count("script") == text.count("</script>") == 3
    assert not parser.handlers


def test_a_terminal_shows_markup_as_text() -> None:
    """Rich's markup and emoji codes are shown as text, and control characters are escaped."""
    text = format_report("terminal", make_report(make_hostile_study().make_study()))
    for markup in ("[bold]x[/bold]", "[/red]", ":cat:"):
        assert markup in text
    assert text.replace("\n", "").isprintable()


def test_a_report_stays_in_its_folder(tmp_path: Path) -> None:
    """Names of studies and factors cannot point to other folders."""
    study = make_hostile_study().make_study()
    out = tmp_path / "a/b/c"
    files = write_report(make_report(study), out)
    assert {file.resolve().parent for file in files} == {out.resolve()}
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(files)
    assert any(file.suffix == ".png" for file in files)
    assert "/" not in make_file_name("../x")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from(["\ud800", 10**12, 2**63, 10**400, "generator.n_ctx", 1, 2]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["key", "levels", "baseline", "log", "config_key", "assignment", "control", "seeds"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=6,
)  # fmt: skip
_TAGS = st.sampled_from([Tag.FACTORS, Tag.STUDY, Tag.PLANNED, Tag.ASSIGNMENT, Tag.SEEDS])
_TEXTS = _JSON.map(json.dumps) | st.text(max_size=5) | st.just("[" * 100_000)


def make_runs() -> list[Run]:
    """Return the runs of a valid study, starting with the run that describes it."""
    builder = StoreBuilder(seeds=(0, 1))
    for level in (1, 2, 4):
        builder.add_run(
            {"generator.n_ctx": level}, {seed: make_scores(60 + level) for seed in (0, 1)}
        )
    return [builder.make_study_run(), *builder.runs]


def check_report_or_error(edits: list[tuple[int, str, str]]) -> None:
    """Edit tags, and assert that all formats can be rendered or that the error is one line.

    Args:
        edits: Position of the run, tag, and new text of the tag.
    """
    runs = make_runs()
    for position, tag, text in edits:
        run = runs[position % len(runs)]
        runs[position % len(runs)] = dataclasses.replace(run, tags={**run.tags, tag: text})
    try:
        report = make_report(build_study_from_runs("x", runs))
    except ReportError as error:
        assert "\n" not in str(error)
        return
    for output_format in ("terminal", "markdown", "latex", "csv"):
        format_report(output_format, report).encode()


_EDITS = st.lists(st.tuples(st.integers(0, 3), _TAGS, _TEXTS), min_size=1, max_size=2)


@given(edits=_EDITS)
@example(edits=[(0, "ship.factors", '[{"key": ""}]')])  # a column without a heading
def test_tags_of_any_content_give_a_report_or_a_one_line_error(
    edits: list[tuple[int, str, str]],
) -> None:
    """Tags of the study and of its runs contain any JSON or any text."""
    check_report_or_error(edits)


@pytest.mark.parametrize("seeds", ["1000000000000", "[-1]", "[9223372036854775808]", '"x"'])
def test_invalid_seeds_are_one_line_errors(seeds: str) -> None:
    """Too many seeds would fill the memory, and too large ones would overflow a column."""
    study_run, *runs = make_runs()
    config = json.dumps({"seeds": json.loads(seeds)})
    study_run = dataclasses.replace(study_run, tags={**study_run.tags, Tag.STUDY: config})
    with pytest.raises(ReportError, match="seeds"):
        build_study_from_runs("x", [study_run, *runs])


@pytest.mark.parametrize("effect", ["1", True, 0, -1, 1e9])
def test_an_invalid_smallest_effect_is_a_one_line_error(effect: Any) -> None:
    """The effect must be a number of points within the allowed range."""
    builder = StoreBuilder(seeds=(0,), config={"smallest_effect": effect})
    builder.add_run({}, {0: make_scores(1)})
    with pytest.raises(ReportError, match="smallest_effect: Input should be"):
        builder.make_study()


@pytest.mark.parametrize("column", ["run_id", "seed", "state", "config_key", "seconds"])
def test_a_metric_named_like_a_column_is_ignored(column: str) -> None:
    """The metric does not replace a run's seed, state or key."""
    builder = StoreBuilder(factors=make_factors("shots", [1, 2], 1), seeds=(0, 1))
    for shots in (1, 2):
        builder.add_run({"shots": shots}, {seed: make_scores(60.0 + shots) for seed in (0, 1)})
    before = builder.make_study().rows
    builder.runs[-1].metrics[f"{column}/seed_0"] = 5.0
    assert builder.make_study().rows.equals(before)


@pytest.mark.parametrize("targets", ["5", "true", "[[1]]", "[" * 2000, "null", "{}"])
def test_invalid_targets_are_ignored(targets: str) -> None:
    """A param that is not a list of names defines no targets."""
    builder = StoreBuilder(protocol="cross_dataset", constants={"targets": targets})
    builder.add_run({"generator.n_ctx": 4}, {0: {"accuracy": 60.0, "source": 60.0}})
    assert {*builder.make_study().protocol.headings} == {*PROTOCOLS["cross_dataset"].headings}
