"""A study as Optuna reads it."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from reports.cli import app
from reports.contract import ReportError
from reports.export import export
from tests.reports.analysis.planted import drawn, grid
from tests.reports.builder import StoreBuilder, prompt_len, scores


def stored(uri: str, name: str) -> optuna.Study:
    """The study in Optuna's storage."""
    return optuna.load_study(storage=uri, study_name=name)


def test_a_setting_is_a_trial(tmp_path: Path) -> None:
    """Values are means of the selection objective, params the levels, arms are left out."""
    builder, uri = prompt_len(), f"sqlite:///{tmp_path / 'x.db'}"
    study = builder.study()
    line = export(study, f"optuna:{uri}")
    assert line == f"5 settings as Optuna trials: optuna-dashboard {uri}"
    made = stored(uri, "prompt_len")
    own = study.rows.filter(study.rows["arm"] == "")
    means = {
        int(n): own.filter(own["generator.n_ctx"] == n)["selection/harmonic_mean"].mean()
        for n in (1, 2, 4, 8, 16)
    }
    found = {trial.params["generator.n_ctx"]: trial.value for trial in made.trials}
    assert found == pytest.approx(means)
    assert made.best_trial.user_attrs["seeds"] == 5
    assert made.best_trial.user_attrs["test/harmonic_mean"] > 50


def test_ranges_are_ranges_and_what_did_not_finish_says_so(tmp_path: Path) -> None:
    """A drawn factor has the ends that were drawn; a failed and a stopped setting have no value."""
    builder, uri = drawn(2, 8, lambda s: s["x0"]), f"sqlite:///{tmp_path / 'x.db'}"
    builder.trial({"x0": 0.5, "x1": 0.5}, {0: {}}, state="FAIL", reason="worker died")
    builder.trial({"x0": 0.6, "x1": 0.5}, {0: {}}, state="PRUNED")
    export(builder.study(), f"optuna:{uri}")
    made = stored(uri, builder.name)
    states = [trial.state for trial in made.trials]
    assert states.count(TrialState.COMPLETE) == 8
    assert states.count(TrialState.FAIL) == states.count(TrialState.PRUNED) == 1
    space = made.trials[0].distributions["x0"]
    assert isinstance(space, optuna.distributions.FloatDistribution) and space.high <= 1


def test_a_factor_that_no_setting_has_yet_is_left_out(tmp_path: Path) -> None:
    """One of a condition: Optuna knows no distribution without a value."""
    uri = f"sqlite:///{tmp_path / 'x.db'}"
    builder = prompt_len()
    unmet = {"key": "generator.scale", "levels": [1, 2], "log": False, "baseline": 1}
    builder.factors = (*builder.factors, unmet)
    export(builder.study(), f"optuna:{uri}")
    assert {*stored(uri, "prompt_len").trials[0].params} == {"generator.n_ctx"}


def test_a_second_export_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """The storage keeps the first."""
    uri = f"sqlite:///{tmp_path / 'x.db'}"
    study = grid((2, 2), lambda s: 0.0).study()
    export(study, f"optuna:{uri}")
    with pytest.raises(ReportError) as raised:
        export(study, f"optuna:{uri}")
    assert len(stored(uri, study.name).trials) == 4
    way_out = f"optuna.delete_study(study_name={study.name!r}, storage={uri!r})"
    assert "give another file, or delete it there" in str(raised.value)
    assert str(raised.value).endswith(way_out)
    optuna.delete_study(study_name=study.name, storage=uri)
    export(study, f"optuna:{uri}")


def test_a_study_without_scores_is_told_apart_from_one_whose_settings_failed(
    tmp_path: Path,
) -> None:
    """Under selection none there is no value; a setting that failed has none yet."""
    uri = f"sqlite:///{tmp_path / 'x.db'}"
    unselected = StoreBuilder(objective="", selection="none")
    unselected.trial({"generator.n_ctx": 4}, {0: scores(60.0)}, selected={})
    with pytest.raises(ReportError, match=r"^prompt_len: selection none gives no score"):
        export(unselected.study(), f"optuna:{uri}")
    failed = StoreBuilder().trial({"generator.n_ctx": 4}, {0: {}}, state="FAIL", reason="died")
    export(failed.study(), f"optuna:{uri}")
    assert [trial.state for trial in stored(uri, "prompt_len").trials] == [TrialState.FAIL]


@pytest.mark.parametrize(
    "target",
    [
        "csv:x",
        "optuna:",
        "optuna:sqlite:////no/such/folder/x.db",
        "optuna:postgresql://me:a@s3cr3t:b@host/db",
    ],
)
def test_what_cannot_be_written_is_one_line(store_uri: str, target: str) -> None:
    """Exit code 2, and no password."""
    uri = prompt_len().write(store_uri)
    result = CliRunner().invoke(app, ["prompt_len", "--tracking-uri", uri, "--export", target])
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "s3cr3t" not in result.stderr


def test_no_other_option_is_dropped_beside_it(store_uri: str) -> None:
    """An export makes no report that a format or a metric could be of."""
    asked = ["prompt_len", "--tracking-uri", store_uri, "--export", "optuna:sqlite:///x.db"]
    result = CliRunner().invoke(app, [*asked, "--metric", "new"])
    assert result.exit_code == 2 and "beside --export" in result.stderr
