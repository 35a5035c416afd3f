"""The command ship-sweep: its arguments, exit codes and output."""

import os
import shlex
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest
import torch

import harness.study
import reports.cli
from harness.cli import predictions
from harness.device import find_gpu_fault
from harness.errors import UserError
from harness.planning.changes import ADVICE, StaleRows, refuse_changes
from harness.removed import REMOVED
from harness.store.errors import StoreUnavailable
from harness.store.lease import StudyLost
from harness.study.run import StudyOutcome
from reports.errors import ReportError
from ship.architectures import BackboneError
from ship.testing.checks import FINETUNER_CHECKS
from tests.addresses import WITH_PASSWORDS
from tests.case_files import load_cases
from tests.harness.cli.conftest import URI, invoke


def test_a_complete_study_exits_0_and_prints_the_command_of_mlflows_ui(
    calls: dict[str, Any],
) -> None:
    """The command follows the report, and is quoted for a shell."""
    result = invoke("--space", "prompt_len", "--set", "shots=4", "--address", "auto", "--verbose")
    assert result.exit_code == 0
    assert calls["study"].base.shots == 4
    assert calls["options"] == {
        "data_root": None, "address": "auto", "in_process": False, "verbose": True,
        "cache_dir": None, "storage": None, "accept_changes": False, "reuse": True,
        "retry_non_finite": False, "store_timeout": 1800.0,
    }  # fmt: skip
    progress, report, runs = result.stdout.splitlines()
    assert (progress, report) == ("progress", "report 1 in prompt_len-report")
    assert calls["reports"] == [("prompt_len", URI)]
    command = shlex.split(runs.removeprefix("all runs (experiment prompt_len): "))
    assert command == ["mlflow", "ui", "--backend-store-uri", URI, "--port", "5000"]


@pytest.mark.parametrize("publishes", [False, True])
def test_the_report_is_prepared_once(calls: dict[str, Any], publishes: bool) -> None:
    """The printed report is the one that is stored in MLflow."""
    calls["publishes"] = publishes
    _, report, _ = invoke("--space", "prompt_len").stdout.splitlines()
    assert report == "report 1 in prompt_len-report"
    assert calls["published"] == ("publication" if publishes else None)


OUTCOMES = load_cases(__file__, "outcomes.yaml")


@pytest.mark.parametrize("case", OUTCOMES, ids=lambda case: str(case["outcome"]))
def test_the_exit_code_depends_on_failed_and_missing_trials(
    calls: dict[str, Any], case: dict[str, Any]
) -> None:
    """It is 3 if trials failed or are missing, and 130 after an interrupt."""
    calls["outcome"] = case["outcome"]
    result = invoke("--space", "prompt_len")
    assert result.exit_code == case["code"]
    assert result.stderr.startswith(case["stderr"])
    assert len(result.stderr.splitlines()) == bool(case["stderr"])
    assert result.stdout.splitlines()[1].startswith(case["stdout"])


def test_an_unwritable_report_is_one_line_error(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of MLflow's UI is printed nevertheless."""
    error = ReportError("cannot write prompt_len-report")
    monkeypatch.setattr(reports.cli, "prepare_report", Mock(side_effect=error))
    result = invoke("--space", "prompt_len")
    assert (result.exit_code, result.stderr) == (2, f"{error}\n")
    assert "mlflow ui" in result.stdout


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        # errors of the user that are only detected in the run
        (UserError("no such store"), 2, "no such store\n"),
        (BackboneError("no such tower"), 2, "no such tower\n"),
        # with exit code 3, schedulers run the same job again, which completes the study
        (StoreUnavailable("http://me:geheim@host: no answer"), 3,
         "incomplete: http://***@host: no answer\n"),
        (StudyLost("it is another's"), 3, "incomplete: it is another's\n"),
        (KeyboardInterrupt(), 130, "interrupted: run the same command to resume\n"),
        # a bug keeps its traceback
        (ValueError("shapes differ"), 1, ""),
    ],
)  # fmt: skip
def test_an_expected_error_of_a_run_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    """Each kind of error has an exit code, and only bugs have a traceback."""
    monkeypatch.setattr(harness.study, "run_study", Mock(side_effect=error))
    result = invoke("--space", "prompt_len")
    assert (result.exit_code, result.stderr) == (code, message)
    assert (result.exception is error) == (code == 1)


@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
@pytest.mark.parametrize("uri", WITH_PASSWORDS)
def test_a_password_in_a_stores_address_is_not_printed(
    uri: str, mode: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line without a traceback for every kind of invalid address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("harness.store.errors.MAX_TRIES", 1)  # no server answers
    result = invoke("--space", "prompt_len", *mode)
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    assert "s3cr3t" not in result.output and "PW" not in result.output
    well_formed = uri.startswith("http://user:s3cr3t@")
    assert line.startswith("http://***@127.0.0.1:9: the" if well_formed else "the store's address")


def test_ray_does_not_mistake_the_drivers_parent_for_its_raylet(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command sets the variable before it imports Ray, which reads it on import."""
    monkeypatch.setenv("RAY_RAYLET_PID", "")  # monkeypatch restores it after the test
    monkeypatch.delenv("RAY_RAYLET_PID")
    invoke("--space", "prompt_len")
    assert os.environ["RAY_RAYLET_PID"] == str(os.getpid())


def test_mlflow_sends_no_telemetry(calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is disabled before MLflow is imported, unless the user has set the variable."""
    for user_value, value in (("", "true"), ("false", "false")):
        # monkeypatch restores the variable after the test
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", user_value)
        if not user_value:
            monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
        invoke("--space", "prompt_len")
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == value


def test_a_changed_study_is_refused_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message offers --accept-changes, which runs the study."""

    def run_study(*_: Any, accept_changes: bool, **__: Any) -> StudyOutcome:
        changes = StaleRows(differences={"shots: 2 -> 4": None})
        changes.changed["a", 0] = 90.0
        if not accept_changes:
            refuse_changes(changes, "small.yaml")
        return StudyOutcome(0, 0, 0, 1, "prompt_len", URI)

    monkeypatch.setattr(harness.study, "run_study", run_study)
    result = invoke("--space", "prompt_len")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == ADVICE
    assert invoke("--space", "prompt_len", "--accept-changes").exit_code == 3


PLUGIN = Path(__file__).parents[2] / "third_party" / "nearest_mean.py"


@pytest.mark.usefixtures("restore_registries")
def test_a_plugins_methods_can_be_used_in_the_yaml(calls: dict[str, Any]) -> None:
    """With --plugin, the YAML and --set may use the names that the file defines."""
    arguments = ("--set", "finetuner=nearest_mean", "--plugin", str(PLUGIN))
    result = invoke("--space", "prompt_len", *arguments)
    assert result.exit_code == 0, result.output
    assert calls["study"].base.finetuner.step == 0.5
    options = invoke("options", "--plugin", str(PLUGIN))
    assert options.exit_code == 0 and "step size, as a part of the distance" in options.stdout


@pytest.mark.usefixtures("restore_registries")
def test_check_lists_passed_and_failed_checks() -> None:
    """The exit code is 0 if all checks pass, 1 if a check fails, 2 for an unknown name."""
    valid = invoke("check", "nearest_mean", "--plugin", str(PLUGIN))
    assert valid.exit_code == 0, valid.output
    lines = valid.stdout.splitlines()
    assert lines[-1] == "all checks passed" and len(lines) == 1 + 2 * len(FINETUNER_CHECKS)
    assert all(line.startswith("fine-tuner nearest_mean: passed  with") for line in lines[:-1])
    text = PLUGIN.read_text("utf-8")
    for old, new in (
        ('self.register_buffer("means", means, persistent=False)', "self.means = means"),
        ('"nearest_mean"', '"forgetful"'),
        ('"noisy_text"', '"noisier"'),
    ):
        text = text.replace(old, new)
    Path("forgetful.py").write_text(text, "utf-8")
    broken = invoke("check", "forgetful", "--plugin", "forgetful.py")
    assert broken.exit_code == 1
    assert "FAILED  without synthetic features, it can be built" in broken.stdout
    assert broken.stdout.count("means differs between seeds. Store it with register_buffer") == 1
    unknown = invoke("check", "forgetfull", "--plugin", "forgetful.py")
    assert unknown.exit_code == 2 and "did you mean forgetful?" in unknown.stderr


MISTAKES = load_cases(__file__, "mistakes.yaml")


@pytest.mark.usefixtures("restore_registries")
@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case["command"])
def test_mistakes_exit_2_with_one_line_each(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All mistakes in the command line and the YAML are reported at once on stderr."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    Path("broken.py").write_text("1 / 0")
    Path("empty.py").touch()
    result = invoke(*shlex.split(case["command"]))
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == len(case["lines"]), lines
    for line, start in zip(lines, case["lines"], strict=True):
        assert line.startswith(start)
    assert "geheim" not in result.stderr


def test_removed_options_are_reported_with_their_replacements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has one line, whether its value follows "=" or a space."""
    monkeypatch.setitem(REMOVED, "--gone", "--gone was removed. Use ship-sweep list.")
    monkeypatch.setitem(REMOVED, "--left", "--left was removed. Use ship-sweep copy NAME.")
    result = invoke("--space", "prompt_len", "--left=3", "--gone", "4")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [REMOVED["--left"], REMOVED["--gone"]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_unusable_gpu_is_refused_with_torchs_reason() -> None:
    """It is refused before features are extracted."""
    result = invoke("--space", "prompt_len", "--set", "resources.gpus=0.5")
    assert (result.exit_code, result.stdout) == (2, "")
    message = (
        f"each trial needs a GPU, but torch cannot use a GPU on this machine: {find_gpu_fault()}"
    )
    assert result.stderr.startswith(message) and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("classes", "seeds", "summary", "exit_code"),
    [
        (["cat"], 1, "1 image predicted as 1 class", 0),
        (
            ["cat", "dog"],
            2,
            "2 images predicted as 2 classes; the models of all 2 seeds agree on 2 images",
            0,
        ),
        (["cat", None], 1, "1 image predicted as 1 class", 2),
    ],
)
def test_predictions_are_summarized_and_broken_images_are_listed(
    monkeypatch: pytest.MonkeyPatch,
    classes: list[str | None],
    seeds: int,
    summary: str,
    exit_code: int,
) -> None:
    """The CSV has every image. Images that cannot be decoded are on stderr, with exit code 2."""
    n_seeds = [None if name is None else seeds for name in classes]
    errors = ["x.png: cannot be decoded" if name is None else None for name in classes]
    table = pl.DataFrame(
        {"image": classes, "class": classes, "seeds": n_seeds, "seeds_agreeing": n_seeds},
    ).with_columns(error=pl.Series(errors, dtype=pl.String))
    monkeypatch.setattr(predictions, "predict", lambda *_: table)
    result = invoke("predict", "small", ".")
    assert result.exit_code == exit_code
    assert result.stdout == f"small-predictions.csv: {summary}\n"
    warning = "not predicted: x.png: cannot be decoded\n"
    assert result.stderr == (warning if exit_code else "")
    assert len(pl.read_csv("small-predictions.csv")) == len(classes)
