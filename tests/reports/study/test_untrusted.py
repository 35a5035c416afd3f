"""A store is untrusted input: any text gives a report or one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.store import PROTOCOLS, Run, Tag
from reports.errors import ReportError
from reports.render.files import make_file_name, report_text, write_report
from reports.report import make_report
from reports.study.load import build_study_from_runs
from tests.reports.builder import StoreBuilder, scores
from tests.reports.pages import Parsed, whole_page
from tests.reports.studies import one_factor

HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[bold]x[/bold]", "[/red]",
    ":cat:", "$\\frac$", "$x", "\x1b[2J", "../../../x", "{{x}}", "\\input{x}", "`x`", "'\"><b>",
)  # fmt: skip


def hostile() -> StoreBuilder:
    """A study whose factor, levels and reason are made to be taken for something else."""
    builder = StoreBuilder(
        name="../../<b>study</b>",
        factors=one_factor("../../factor<i>", list(HOSTILE), HOSTILE[0]),
        seeds=(0, 1),
    )
    for i, level in enumerate(HOSTILE):
        results = {seed: scores(60 + i + seed) for seed in (0, 1)}
        builder.trial({"../../factor<i>": level}, results)
    builder.trial({"../../factor<i>": "x"}, {0: scores(1)}, state="FAIL", reason=HOSTILE[0])
    return builder


def test_a_page_has_no_element_from_a_text() -> None:
    """Labels that are HTML are shown as text."""
    text = whole_page(hostile())
    parser = Parsed(text)
    assert not set(parser.tags) & {"img", "b", "i"}
    # Vega, the specifications and the page's own: a text of the store neither adds nor ends one.
    assert parser.tags.count("script") == text.count("</script>") == 3
    assert not parser.handlers


def test_a_terminal_shows_markup_as_text() -> None:
    """rich's markup and emoji codes are text, and control characters are escaped."""
    text = report_text("terminal", make_report(hostile().study()))
    for shown in ("[bold]x[/bold]", "[/red]", ":cat:"):
        assert shown in text
    assert text.replace("\n", "").isprintable()


def test_a_report_stays_in_its_folder(tmp_path: Path) -> None:
    """No name of a study or a factor leads out of it, and any label can be drawn."""
    study = hostile().study()
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


def runs() -> list[Run]:
    """A sound study."""
    builder = StoreBuilder(seeds=(0, 1))
    for level in (1, 2, 4):
        builder.trial({"generator.n_ctx": level}, {seed: scores(60 + level) for seed in (0, 1)})
    return [builder.parent(), *builder.runs]


def check(edits: list[tuple[int, str, str]]) -> None:
    """A table in every format, or ReportError of one line."""
    drawn_runs = runs()
    for place, tag, text in edits:
        run = drawn_runs[place % len(drawn_runs)]
        drawn_runs[place % len(drawn_runs)] = dataclasses.replace(run, tags={**run.tags, tag: text})
    try:
        report = make_report(build_study_from_runs("x", drawn_runs))
    except ReportError as error:
        assert "\n" not in str(error)
        return
    for form in ("terminal", "markdown", "latex", "csv"):
        report_text(form, report).encode()


_EDITS = st.lists(st.tuples(st.integers(0, 3), _TAGS, _TEXTS), min_size=1, max_size=2)


@given(edits=_EDITS)
@example(edits=[(0, "ship.factors", '[{"key": ""}]')])  # a column without heading or text
def test_tags_of_any_content_give_a_report_or_one_line(edits: list[tuple[int, str, str]]) -> None:
    """They contain any JSON or text."""
    check(edits)


@pytest.mark.parametrize("seeds", ["1000000000000", "[-1]", "[9223372036854775808]", '"x"'])
def test_invalid_seeds_are_one_line(seeds: str) -> None:
    """A count that would fill the memory, and one too large for a column, are rejected."""
    drawn_runs = runs()
    config = json.dumps({"seeds": json.loads(seeds)})
    drawn_runs[0] = dataclasses.replace(
        drawn_runs[0], tags={**drawn_runs[0].tags, Tag.STUDY: config}
    )
    with pytest.raises(ReportError, match="seeds"):
        build_study_from_runs("x", drawn_runs)


@pytest.mark.parametrize("effect", ["1", True, 0, -1, 1e9])
def test_an_invalid_smallest_effect_is_one_line(effect: Any) -> None:
    """The store is untrusted input, so the effect may be no number of points."""
    with pytest.raises(ReportError, match="smallest_effect: Input should be"):
        StoreBuilder(seeds=(0,), config={"smallest_effect": effect}).trial(
            {}, {0: scores(1)}
        ).study()


@pytest.mark.parametrize("column", ["run_id", "seed", "state", "config_key", "seconds"])
def test_a_metric_named_like_a_column_is_ignored(column: str) -> None:
    """It does not replace the run's own seed, state or key."""
    builder = StoreBuilder(factors=one_factor("shots", [1, 2], 1), seeds=(0, 1))
    for shots in (1, 2):
        builder.trial({"shots": shots}, {seed: scores(60.0 + shots) for seed in (0, 1)})
    before = builder.study().rows
    builder.runs[-1].metrics[f"{column}/seed_0"] = 5.0
    assert builder.study().rows.equals(before)


@pytest.mark.parametrize("targets", ["5", "true", "[[1]]", "[" * 2000, "null", "{}"])
def test_invalid_targets_are_ignored(targets: str) -> None:
    """A param that is no list of names names no target."""
    builder = StoreBuilder(protocol="cross_dataset", constants={"targets": targets})
    builder.trial({"generator.n_ctx": 4}, {0: {"accuracy": 60.0, "source": 60.0}})
    assert {*builder.study().protocol.headings} == {*PROTOCOLS["cross_dataset"].headings}
