"""ship-sweep from outside: exit codes, what is printed, and how light it is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import harness.cli.detect
import harness.resources.idle
import harness.resources.refusals
import harness.study
import reports.cli
from harness.cli import main as cli
from harness.errors import UserError
from harness.planning.changes import WAYS_OUT, Changes, Consent
from harness.planning.plan import Estimate, PlanRow
from harness.store.errors import StoreAway
from harness.store.lock.lease import StudyLost
from harness.study.run import StudyOutcome
from reports.contract import ReportError
from ship.architectures import BackboneError
from ship.testing import FINETUNER_CHECKS
from tests.addresses import WITH_PASSWORDS

URI = "sqlite:////somewhere/mlflow.db"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a run_study in place that does nothing but answer, and a report that takes notes."""
    seen: dict[str, Any] = {"outcome": {"done": 5}}

    def run_study(study: Any, **options: Any) -> StudyOutcome:
        seen.update(study=study, options=options)
        counts = {"done": 0, "failed": 0, "pruned": 0, "missing": 0, **seen["outcome"]}
        return StudyOutcome(**counts, experiment=study.name, tracking_uri=URI)

    monkeypatch.setattr(harness.study, "run_study", run_study)
    monkeypatch.setattr(reports.cli, "prepare", lambda *args: prepared(*args, seen))
    return seen


def prepared(name: str, uri: str, seen: dict[str, Any]) -> reports.cli.Prepared:
    """A report that notes where it is shown."""

    def show(out: Path) -> list[Path]:
        seen["shown"] = (name, uri, out)
        print(out)
        return []

    return reports.cli.Prepared("publication", show, "study")  # type: ignore[arg-type]


def invoke(*args: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, list(args))


def raising(error: BaseException) -> Callable[..., StudyOutcome]:
    """A run_study that ends so."""

    def run_study(*_: Any, **__: Any) -> StudyOutcome:
        raise error

    return run_study


def test_complete_study_exits_0_and_says_how_to_see_it(calls: dict[str, Any]) -> None:
    """A finished study prints its report, then the command that opens MLflow's UI."""
    result = invoke("--space", "prompt_len", "--set", "shots=4", "--address", "auto", "--verbose")
    assert result.exit_code == 0
    assert calls["study"].trial.shots == 4
    assert callable(calls["options"].pop("before"))
    assert calls["options"].pop("publish")
    assert calls["options"] == {
        "data_root": None, "address": "auto", "in_process": False, "verbose": True,
        "cache_dir": None, "storage": None, "consent": Consent(False, None),
    }  # fmt: skip
    assert calls["shown"] == ("prompt_len", URI, Path("prompt_len-report"))
    assert f"mlflow ui --backend-store-uri {URI} --port 5000" in result.stdout


def test_a_run_says_what_it_has_changed(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is read where run_study says that something runs, and compared at the end."""
    answer = harness.study.run_study
    asked: list[tuple[str, str]] = []

    def changes_from_now(name: str, uri: str) -> Any:
        asked.append((name, uri))
        return lambda made: [f"since the last run ({made.study}):"]

    def run_study(study: Any, **options: Any) -> StudyOutcome:
        options["before"](study.name, URI)
        return answer(study, **options)

    monkeypatch.setattr(reports.cli, "changes_from_now", changes_from_now)
    assert "since the last run" not in invoke("--space", "prompt_len").stdout and not asked
    monkeypatch.setattr(harness.study, "run_study", run_study)
    assert "since the last run (study):\nall runs" in invoke("--space", "prompt_len").stdout
    assert asked == [("prompt_len", URI)]


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        ({"done": 4, "failed": 1}, 3, "incomplete: 1 setting failed, 0 are missing; the same comm"),
        (
            {"done": 4, "failed": 2, "final": True},
            3,
            "incomplete: 2 settings failed, 0 are missing; none is tried again",
        ),
        ({"done": 4, "missing": 2}, 3, "incomplete: 0 settings failed, 2 are missing"),
        ({"done": 4, "pruned": 2}, 0, ""),
        ({"done": 1, "missing": 2, "interrupted": True}, 130, "interrupted: the same command"),
    ],
)
def test_exit_codes(calls: dict[str, Any], outcome: dict[str, Any], code: int, words: str) -> None:
    """Failed or missing settings exit with 3, an interrupt with 130; pruned ones are complete."""
    calls["outcome"] = outcome
    result = invoke("--space", "prompt_len")
    assert result.exit_code == code
    assert result.stderr.startswith(words)


def test_wrong_options_come_together() -> None:
    """Before the YAML is looked at, and without a password."""
    result = invoke("--space", "x", "--address", "a b", "--storage", "foo://me:geheim@host/x")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("--address must be local, auto or HOST:PORT")
    assert second.startswith("--storage must be a folder or begin with one of")
    assert "geheim" not in result.stderr


@pytest.mark.parametrize("mode", [(), ("--dry-run",), ("--path",)])
@pytest.mark.parametrize("uri", WITH_PASSWORDS)
def test_a_password_in_a_stores_address_is_not_printed(
    uri: str, mode: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However wrong the address is: one line, no traceback."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    result = invoke("--space", "prompt_len", *mode)
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    assert "s3cr3t" not in result.output and "PW" not in result.output
    well_formed = uri.startswith("http://user:s3cr3t@")
    assert line.startswith("http://***@127.0.0.1:9: no" if well_formed else "the store's address")


def test_mlflow_tells_nobody_of_a_study(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its telemetry is off before it is imported, unless the user has said otherwise."""
    for said, found in (("", "true"), ("false", "false")):
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", said)  # so that it is put back
        if not said:
            monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
        invoke("--space", "prompt_len")
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == found


def test_detect_runs_stages(calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """--detect and --max-seeds reach the stages, whose last outcome is the command's."""

    def run_stages(study: Any, effect: float, most: int, plan: Any, run: Any, say: Any) -> Any:
        calls.update(detect=(effect, most))
        say("n_ctx=8 against n_ctx=4: open")
        return run(study)

    monkeypatch.setattr(harness.cli.detect, "run_stages", run_stages)
    result = invoke("--space", "prompt_len", "--detect", "0.5", "--max-seeds", "30")
    assert result.exit_code == 0
    assert calls["detect"] == (0.5, 30) and "shown" in calls
    assert result.stdout.startswith("n_ctx=8 against n_ctx=4: open")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-seeds", "9"], "--max-seeds must come with --detect"),
        (["--path", "--detect", "1"], "--path must come without --detect"),
        (["--detect", "1", "--set", "scheduler=asha"], "--detect needs scheduler: none, got asha"),
        (["--detect", "1", "--dry-run", "--set", "seeds=1"], "--detect needs seeds to be at least"),
    ],
)
def test_what_detect_refuses(calls: dict[str, Any], options: list[str], words: str) -> None:
    """One line and exit code 2, before anything runs."""
    result = invoke("--space", "prompt_len", *options)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith(words) and "study" not in calls


def test_path_runs_rounds(calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """--path hands the study to the rounds, whose last outcome is the command's."""

    def run_path(study: Any, run: Any, say: Any) -> Any:
        say("path from the baseline to n_ctx=8: nothing is missing")
        return run(study)

    monkeypatch.setattr(harness.study, "run_path", run_path)
    result = invoke("--space", "joint", "--path")
    assert result.exit_code == 0 and "shown" in calls
    assert result.stdout.startswith("path from the baseline to n_ctx=8: nothing is missing\n")
    assert "nothing is missing" not in invoke("--space", "joint").stdout


def test_path_of_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the path would add is in the plan, and what is said of it behind it."""
    plans: list[Any] = []

    def plan_study(study: Any, **_: Any) -> Any:
        plans.append(study)
        rows = (PlanRow("n_ctx=8", "done", (), (0, 1)),)
        return SimpleNamespace(
            rows=rows, proposals=0, seconds=0.0, finished=True, estimate=None, notes=()
        )

    def path_stage(study: Any, plan: Any) -> Any:
        assert plan(study).finished
        return study.model_copy(update={"added": ({"generator.n_ctx": 8},)}), "path: it lacks one"

    monkeypatch.setattr(harness.study, "plan_study", plan_study)
    monkeypatch.setattr(harness.study, "path_stage", path_stage)
    result = invoke("--space", "joint", "--path", "--dry-run")
    assert result.exit_code == 0 and "path: it lacks one" in result.stdout.splitlines()
    assert [len(study.added) for study in plans] == [0, 1]


def test_nothing_done_renders_nothing(calls: dict[str, Any]) -> None:
    """A study without a finished setting has no table."""
    calls["outcome"] = {"missing": 5}
    assert invoke("--space", "prompt_len").exit_code == 3
    assert "shown" not in calls


def test_report_that_cannot_be_written(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report's own mistake is one line, and the UI's command still comes."""

    def prepare(*_: Any) -> None:
        raise ReportError("cannot write prompt_len-report")

    monkeypatch.setattr(reports.cli, "prepare", prepare)
    result = invoke("--space", "prompt_len")
    assert result.exit_code == 2
    assert result.stderr == "cannot write prompt_len-report\n"
    assert "mlflow ui" in result.stdout


def test_a_report_is_made_once_and_shown_at_the_end(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the study's run in MLflow shows is made of the report that is printed afterwards."""
    made: list[Any] = []

    def prepare(*args: Any) -> reports.cli.Prepared:
        made.append(args)
        return prepared(*args, calls)

    def run_study(study: Any, publish: Any, **options: Any) -> StudyOutcome:
        outcome = StudyOutcome(5, 0, 0, 0, study.name, URI)
        assert publish(outcome) == "publication"
        print("progress")
        return outcome

    monkeypatch.setattr(reports.cli, "prepare", prepare)
    monkeypatch.setattr(harness.study, "run_study", run_study)
    lines = invoke("--space", "prompt_len").stdout.splitlines()
    assert lines[:2] == ["progress", "prompt_len-report"]
    assert lines[2].startswith("all runs")
    assert made == [("prompt_len", URI)]


def test_a_report_of_an_earlier_stage_is_not_shown(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a later stage is stopped before it can be reported, the report is made anew."""
    made: list[str] = []

    def prepare(name: str, uri: str) -> reports.cli.Prepared:
        made.append(name)
        return prepared(f"{name} {len(made)}", uri, calls)

    def run_study(study: Any, publish: Any, before: Any, **options: Any) -> StudyOutcome:
        publish(StudyOutcome(5, 0, 0, 0, study.name, URI))
        before(study.name, URI)  # the next stage
        return StudyOutcome(5, 0, 0, 1, study.name, URI, interrupted=True)

    monkeypatch.setattr(reports.cli, "prepare", prepare)
    monkeypatch.setattr(reports.cli, "changes_from_now", lambda name, uri: lambda made: [])
    monkeypatch.setattr(harness.study, "run_study", run_study)
    assert invoke("--space", "prompt_len").exit_code == 130
    assert calls["shown"][0] == "prompt_len 2"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        # a user's mistake that only running finds
        (UserError("no such store"), 2, "no such store\n"),
        (BackboneError("no such tower"), 2, "no such tower\n"),
        # no mistake: a job that is run again on this code finishes the study
        (
            StoreAway("http://me:geheim@host: 3 writes wait in FILE"),
            3,
            "incomplete: http://***@host: 3 writes wait in FILE\n",
        ),
        (StudyLost("it is another's"), 3, "incomplete: it is another's\n"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_what_ends_a_run_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str | None
) -> None:
    """With an exit code of its own, and no traceback."""
    monkeypatch.setattr(harness.study, "run_study", raising(error))
    result = invoke("--space", "prompt_len")
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == 1 and said in (None, result.stderr)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the user's keeps its traceback."""
    monkeypatch.setattr(harness.study, "run_study", raising(ValueError("shapes differ")))
    result = invoke("--space", "prompt_len")
    assert (result.exit_code, str(result.exception)) == (1, "shapes differ")


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ((), ["--space must be given: a YAML file or a packaged space (choices: cross_dataset, "]),
        (
            ("--address", "there"),
            [
                "--space must be given",
                "--address must be local, auto or HOST:PORT, got 'there'",
            ],
        ),
        (
            ("--space", "promt_len"),
            ["the study must be a YAML file or a packaged space, got 'promt"],
        ),
        (
            ("--space", "prompt_len", "--set", "sed=1", "--set", "shots=0"),
            ["--set: sed must be a known key", "--set: shots must be >= 1, got 0"],
        ),
        (
            ("--space", "prompt_len", "--set", "dataset=caltech101", "--data-root", "absent"),
            ["--set: dataset must be readable: "],
        ),
    ],
)
def test_mistakes_exit_2_with_one_line_each(args: tuple[str, ...], lines: list[str]) -> None:
    """Every mistake of the command line and the YAML is its own line on stderr."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    found = result.stderr.splitlines()
    assert len(found) == len(lines), found
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)


def test_dry_run_prints_the_plan_and_runs_nothing(
    calls: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--dry-run shows state and seeds of each setting."""
    rows = (
        PlanRow("n_ctx=[1]", "done", (), (0, 1)),
        PlanRow("n_ctx=2", "to run", (1,), (0,)),
    )
    plan = SimpleNamespace(
        rows=rows,
        proposals=3,
        seconds=90.0,
        finished=False,
        estimate=None,
        notes=("x.yaml: the study has changed:\n  shots: 4, was \x1b[31m8",),
    )
    monkeypatch.setattr(harness.study, "plan_study", lambda *_, **__: plan)
    result = invoke("--space", "prompt_len", "--dry-run")
    assert result.exit_code == 0
    assert "changed:\n  shots: 4, was \\x1b[31m8\n" in result.stdout
    assert "n_ctx=[1]" in result.stdout
    assert "to run" in result.stdout
    assert "3 more settings" in result.stdout
    assert "1.5 min" in result.stdout
    assert "study" not in calls


def test_dry_run_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each setting that is left, in all, on this machine, and where the numbers come from."""
    rows = (
        PlanRow("n_ctx=1", "done", (), (0, 1), key="a"),
        PlanRow("n_ctx=2", "to run", (1,), (0,), key="b"),
        PlanRow("n_ctx=4", "to run", (0, 1), (), key="c"),
    )
    left = Estimate({"b": 0.4, "c": 90.0}, 7200.0, 2, "12 finished trials", 100, 30.0, 12.0)
    plan = SimpleNamespace(rows=rows, proposals=3, finished=False, estimate=left, notes=())
    monkeypatch.setattr(harness.study, "plan_study", lambda *_, **__: plan)
    lines = invoke("--space", "prompt_len", "--dry-run").stdout.splitlines()
    ends = {line.split()[0]: " ".join(line.split()[-2:]) for line in lines if "n_ctx" in line}
    assert ends == {"n_ctx=1": "n_ctx=1 done", "n_ctx=2": "<1 s", "n_ctx=4": "1.5 min"}
    assert lines[-2] == (
        "estimated compute time left: about 2.0 h, about 1.0 h on this machine (2 trials at once, "
        "features 30 s, start and end 12 s); from 12 finished trials"
    )
    elsewhere = invoke("--space", "prompt_len", "--dry-run", "--address", "auto").stdout
    assert "on this machine" not in elsewhere
    assert "2.0 h; from 12 finished trials" in elsewhere


@pytest.mark.parametrize("finished", [False, True])
def test_dry_run_warns_of_a_machine_too_small(
    monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """The plan is shown, as it may run elsewhere; what a run here would be refused for, too."""
    plan = SimpleNamespace(
        rows=(), proposals=0, seconds=None, finished=finished, estimate=None, notes=()
    )
    monkeypatch.setattr(harness.study, "plan_study", lambda *_, **__: plan)
    monkeypatch.setattr(harness.resources.refusals, "usable_gpus", lambda: 0)
    monkeypatch.setattr(harness.resources.refusals, "why_no_gpu", lambda: None)
    result = invoke("--space", "prompt_len", "--set", "resources.gpus=1", "--dry-run")
    assert result.exit_code == 0
    assert "study prompt_len" in result.stdout
    words = "warning: a run would be refused: resources.gpus must be at most 0, which is all"
    assert result.stderr.startswith(words) != finished
    assert len(result.stderr.splitlines()) == (not finished)


@pytest.mark.parametrize(
    ("arguments", "finished", "told"),
    [((), False, True), ((), True, False), (("--address", "auto"), False, False)],
)
def test_dry_run_tells_of_gpus_that_stand_idle(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], finished: bool, told: bool
) -> None:
    """Where there is something to run, and here; the plan goes to stdout alone."""
    plan = SimpleNamespace(
        rows=(), proposals=0, seconds=None, finished=finished, estimate=None, notes=()
    )
    monkeypatch.setattr(harness.study, "plan_study", lambda *_, **__: plan)
    monkeypatch.setattr(harness.resources.idle, "usable_gpus", lambda: 2)
    monkeypatch.setattr(harness.resources.idle, "why_no_gpu", lambda: None)
    result = invoke("--space", "prompt_len", "--dry-run", *arguments)
    line = (
        "warning: 2 of 2 GPUs stand idle, as no trial takes one: the line `resources: auto` in the "
        "YAML, or --set resources=auto, uses them\n"
    )
    assert result.stderr == (line if told else "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpus_that_torch_cannot_use_exit_2() -> None:
    """Before anything is extracted, in torch's own words."""
    result = invoke("--space", "prompt_len", "--set", "resources.gpus=0.5")
    assert result.exit_code == 2
    why = harness.resources.why_no_gpu()
    assert result.stderr.startswith(
        f"resources.gpus is 0.5, but torch cannot use a GPU here: {why}"
    )
    assert len(result.stderr.splitlines()) == 1 and "features" not in result.stdout


def test_a_changed_study_is_refused_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nobody is asked: exit code 2, and what to do about it."""

    def run_study(*_: Any, consent: Consent, **__: Any) -> StudyOutcome:
        changes = Changes(differences={"shots: 2 -> 4": None})
        changes.changed.seconds["a", 0] = 90.0
        consent.check(changes, "small.yaml")
        return StudyOutcome(0, 0, 0, 1, "prompt_len", URI)

    monkeypatch.setattr(harness.study, "run_study", run_study)
    result = invoke("--space", "prompt_len")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1:] == [
        "  shots: 2 -> 4",
        "1 finished row of 1 setting (1.5 min of computing) would leave the table, and stay in "
        "MLflow",
        WAYS_OUT,
    ]
    assert invoke("--space", "prompt_len", "--accept-changes").exit_code == 3
    monkeypatch.setattr(cli, "_somebody_is_there", lambda: True)
    for answer, code in (("y\n", 3), ("\n", 2), ("", 2)):
        asked = CliRunner().invoke(cli.app, ["--space", "prompt_len"], input=answer)
        assert asked.exit_code == code
        assert "Run these settings anew? [y/N]" in asked.stdout


def test_list_shows_each_packaged_space_with_its_line() -> None:
    """--list has a line for every packaged study."""
    result = invoke("--list")
    assert result.exit_code == 0
    for name in ("prompt_len", "kl_weight", "latent_dim", "joint"):
        assert name in result.stdout
    assert "prompt length of SHIP's generator" in result.stdout


def test_version() -> None:
    """--version prints the distribution's version."""
    assert invoke("--version").stdout.strip() == "0.2.0"


def test_help_documents_the_exit_codes() -> None:
    """--help says what each exit code means."""
    text = " ".join(invoke("--help").stdout.split())
    for words in (
        "0 the study is complete",
        "2 refused or broken off",
        "3 incomplete",
        "130 interrupted",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "code", "heavy"),
    [
        (["--help"], 0, ["numpy", "pydantic", "polars", "ship"]),
        (["--space", "prompt_len", "--set", "sed=3"], 2, ["scipy", "pandas", "sqlalchemy"]),
    ],
)
def test_the_command_imports_light(arguments: list[str], code: int, heavy: list[str]) -> None:
    """Neither --help nor a mistake in the YAML loads what training or the store needs."""
    script = (
        "import sys\n"
        "arguments, code, heavy = map(eval, sys.argv[1:])\n"
        "sys.argv = ['ship-sweep', *arguments]\n"
        "try:\n"
        "    from harness.cli.main import main\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert end.code == code, end.code\n"
        "heavy = {'torch', 'open_clip', 'ray', 'mlflow', 'optuna', *heavy}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", script, *map(repr, (arguments, code, heavy))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


PLUGIN = str(Path(__file__).parents[2] / "third_party" / "nearest_mean.py")


@pytest.mark.usefixtures("own_tables")
def test_plugins_are_known_to_the_study(calls: dict[str, Any]) -> None:
    """--plugin lets the YAML, and --set, name what a file has."""
    options = ("--space", "prompt_len", "--set", "finetuner=nearest_mean")
    refused = invoke(*options)
    assert refused.exit_code == 2
    assert "finetuner must be one of the choices, got 'nearest_mean'" in refused.stderr
    result = invoke(*options, "--plugin", PLUGIN)
    assert result.exit_code == 0, result.output
    assert calls["study"].trial.finetuner.step == 0.1
    listed = invoke("--list-options", "--plugin", PLUGIN)
    assert listed.exit_code == 0 and "part of the way that an epoch goes" in listed.stdout


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("command", [("--space", "prompt_len"), ("--list-options",)])
def test_a_plugin_that_cannot_be_used_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    """One line for each file, on stderr, with exit code 2."""
    (tmp_path / "broken.py").write_text("1 / 0")
    result = invoke(*command, "--plugin", "broken.py", "--plugin", "absent.py")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "--plugin: file broken.py cannot be imported: ZeroDivisionError: division by zero",
        "--plugin: file absent.py: cannot be read: No such file or directory",
    ]


@pytest.mark.usefixtures("own_tables")
def test_check_says_what_holds_and_what_fails(tmp_path: Path) -> None:
    """Exit code 0 where everything holds, 1 where something fails, 2 for a name of nothing."""
    sound = invoke("--check", "nearest_mean", "--plugin", PLUGIN)
    assert sound.exit_code == 0, sound.output
    lines = sound.stdout.splitlines()
    assert lines[-1] == "everything holds" and len(lines) == 1 + 2 * len(FINETUNER_CHECKS)
    assert all(line.startswith("fine-tuner nearest_mean: holds  with") for line in lines[:-1])
    forgetful = (
        Path(PLUGIN)
        .read_text("utf-8")
        .replace('return {"prototypes": self.prototypes}', "return {}")
    )
    Path("forgetful.py").write_text(forgetful.replace('"nearest_mean"', '"forgetful"'), "utf-8")
    text = Path("forgetful.py").read_text("utf-8").replace('"noisy_text"', '"noisier"')
    Path("forgetful.py").write_text(text, "utf-8")
    broken = invoke("--check", "forgetful", "--plugin", "forgetful.py")
    assert broken.exit_code == 1
    assert "FAILS  without synthetic features, a run that was stopped goes on" in broken.stdout
    unknown = invoke("--check", "forgetfull", "--plugin", "forgetful.py")
    assert unknown.exit_code == 2 and "did you mean forgetful?" in unknown.stderr
