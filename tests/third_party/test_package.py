"""A package with plugins can be installed, loaded with --plugin, and used in a study."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE / "ship_example"
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "plugins.md"
YAML = """\
dataset: shapes
generator: {name: residual_text, epochs: 5}
finetuner: ridge
space: {finetuner.l2: [0.1, 1.0]}
seeds: 2
shots: 4
augmentations: 0
resources: {cpus: 1}
controls: false
max_concurrent_trials: 1
"""


def test_docs_show_the_code_of_the_package() -> None:
    """The code on the page on plugins equals the files of the package."""
    text = PAGE.read_text("utf-8")
    shown = re.findall(r"`(ship_example/[\w/.]+)`:\n\n```\w+\n(.*?)```", text, flags=re.DOTALL)
    files = sorted((PACKAGE / "ship_example").glob("*.py"))
    paths = {path.relative_to(HERE).as_posix(): path for path in files}
    assert {name for name, _ in shown} == set(paths)
    for name, code in shown:
        assert code == paths[name].read_text("utf-8"), name


def run_command(*command: str, cwd: Path, code: int = 0) -> str:
    """Run a command, check its exit code, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHIP_SWEEP_CACHE": str(cwd / "cache")}
    process = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert process.returncode == code, process.stdout
    return process.stdout


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_installed_package_works_in_a_study(tmp_path: Path) -> None:
    """Its methods and its dataset pass the checks, and the study has their versions as tags."""
    run_command(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=tmp_path)
    # The environment must also see the packages of the running one. It would inherit only those of
    # the base interpreter if that is a virtual environment itself.
    (site_packages,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    inherited = "\n".join(path for path in sys.path if path.endswith("-packages"))
    (site_packages / "inherited.pth").write_text(inherited)
    python = str(tmp_path / "environment" / "bin" / "python")
    sweep = (python, "-m", "harness.cli.main")
    plugin = ("--plugin", "ship_example")
    (tmp_path / "ridge_study.yaml").write_text(YAML)
    study = ("--space", "ridge_study.yaml")
    output = run_command(*sweep, *study, *plugin, cwd=tmp_path, code=2)
    fault = "module ship_example cannot be imported: ModuleNotFoundError"
    assert f"plugins (--plugin): {fault}" in output
    output = run_command(*sweep, *study, cwd=tmp_path, code=2)
    assert "ridge_study.yaml: finetuner must be one of the choices, got 'ridge'" in output
    assert "If a plugin defines it, name its file or module in plugins (--plugin)" in output

    # a copy, because setuptools writes a folder next to the sources
    source = tmp_path / "source"
    run_command("cp", "-r", str(PACKAGE), str(source), cwd=tmp_path)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run_command(python, "-m", "pip", "install", *options, str(source), cwd=tmp_path)

    for name in ("residual_text", "ridge", "shapes"):
        output = run_command(*sweep, "check", name, *plugin, cwd=tmp_path)
        assert output.splitlines()[-1] == "all checks passed", output
    output = run_command(*sweep, *study, *plugin, "--dry-run", cwd=tmp_path)
    assert "estimated time left for trials" in output, output
    assert "cannot be estimated" not in output, output
    output = run_command(*sweep, *study, *plugin, cwd=tmp_path)
    assert "ridge_study: the answer" in output and "l2" in output, output
    script = (
        "import reports; from mlflow import MlflowClient;"
        "uri = 'sqlite:///mlflow.db'; study = reports.load_study('ridge_study', uri);"
        "assert len(study.rows) == 4, study.rows;"
        "client = MlflowClient(uri);"
        "experiment = client.get_experiment_by_name('ridge_study').experiment_id;"
        "runs = client.search_runs([experiment]);"
        "trials = [run for run in runs if run.data.tags['ship.kind'] == 'trial'];"
        "print({run.data.tags['ship.plugins'] for run in trials})"
    )
    tags = run_command(python, "-c", script, cwd=tmp_path)
    assert "generator residual_text: ship-example 0.1; finetuner ridge: ship-example 0.1" in tags
    assert "dataset shapes: ship-example 0.1" in tags

    # ship-report needs no plugins
    script = "from reports.cli import main; main()"
    output = run_command(python, "-c", script, "ridge_study", cwd=tmp_path)
    assert "l2" in output, output
