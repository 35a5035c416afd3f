"""A report that would be the same is not made again."""

from dataclasses import replace
from pathlib import Path

import pytest

from reports.cli import prepare
from reports.render import is_page_of
from reports.report import stamp_of
from tests.reports.builder import prompt_len, scores

H = "harmonic_mean"


@pytest.mark.parametrize("change", ["a number", "a word", "the metric", "a setting", "a run"])
def test_what_a_report_shows_is_in_its_stamp(change: str) -> None:
    """A test result, the description, the metric, a setting that is wanted, another run."""
    builder = prompt_len()
    before = stamp_of(builder.study(), H)
    study = builder.study()
    if change == "a number":
        builder.runs[3].metrics["seed_2/test/new"] += 0.01
        study = builder.study()
    elif change == "a setting":
        study = builder.want({"generator.n_ctx": 32}).study()
    elif change == "a run":
        builder.trial({"generator.n_ctx": 32}, {s: scores(50.0) for s in builder.seeds})
        study = builder.study()
    elif change == "a word":
        study = replace(study, description="another")
    assert stamp_of(study, "new" if change == "the metric" else H) != before


def test_a_folder_that_has_the_report_is_left_alone(
    store_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time its files keep their times, and the tables are printed all the same."""
    uri, out = prompt_len().write(store_uri), tmp_path / "out"
    prepare("prompt_len", uri)[1](out)
    first = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert capsys.readouterr().out.endswith(f"report: {out} ({len(first)} files)\n")
    assert prepare("prompt_len", uri)[1](out) == []
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == first
    printed = capsys.readouterr().out
    assert printed.startswith("prompt_len: the answer")
    assert printed.endswith(f"report: {out} (as it was)\n")
    (out / "prompt_len.html").write_text("somebody's", encoding="utf-8")
    assert len(prepare("prompt_len", uri)[1](out)) == len(first)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"<p>"])
def test_what_is_no_page_of_it_is_none(tmp_path: Path, content: bytes | None) -> None:
    """A page that is not there, cannot be read as text, or is another's."""
    path = tmp_path / "page.html"
    if content is not None:
        path.write_bytes(content)
    assert not is_page_of(path, "abc")
