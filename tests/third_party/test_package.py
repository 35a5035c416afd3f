"""A package with plugins: installed, named by --plugin, and used in a study."""

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


def test_page_shows_the_packages_code() -> None:
    """They are equal line by line."""
    text = PAGE.read_text("utf-8")
    shown = re.findall(r"`(ship_example/[\w/.]+)`:\n\n```\w+\n(.*?)```", text, flags=re.DOTALL)
    files = sorted((PACKAGE / "ship_example").glob("*.py"))
    names = {path.relative_to(HERE).as_posix(): path for path in files}
    assert {name for name, _ in shown} == set(names)
    for name, code in shown:
        assert code == names[name].read_text("utf-8"), name


def run(*command: str, cwd: Path, code: int = 0) -> str:
    """Run a command, check its exit code, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHIP_SWEEP_CACHE": str(cwd / "cache")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_installed_package_works_in_a_study(tmp_path: Path) -> None:
    """In a new environment, checks pass, and the study ends with its table and tags."""
    inside = tmp_path / "environment" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=tmp_path)
    # a virtual environment made by another one sees the base's packages, not that one's
    (site,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    (site / "beside.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    python, sweep = str(inside), (str(inside), "-m", "harness.cli.main")
    plugin = ("--plugin", "ship_example")
    (tmp_path / "own.yaml").write_text(YAML)
    refused = run(*sweep, "--space", "own.yaml", *plugin, cwd=tmp_path, code=2)
    fault = "module ship_example cannot be imported: ModuleNotFoundError"
    assert f"plugins (--plugin): {fault}" in refused
    refused = run(*sweep, "--space", "own.yaml", cwd=tmp_path, code=2)
    assert "own.yaml: finetuner must be one of the choices, got 'ridge'" in refused
    assert "If a plugin defines it, name its file or module in plugins (--plugin)" in refused

    # a copy: setuptools leaves a folder beside what it builds
    source = tmp_path / "source"
    run("cp", "-r", str(PACKAGE), str(source), cwd=tmp_path)
    install = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", str(source))
    run(python, "-m", "pip", "install", *install, cwd=tmp_path)

    for name in ("residual_text", "ridge", "shapes"):
        check_output = run(*sweep, "check", name, *plugin, cwd=tmp_path)
        assert check_output.splitlines()[-1] == "all checks passed", check_output
    plan_output = run(*sweep, "--space", "own.yaml", *plugin, "--dry-run", cwd=tmp_path)
    assert (
        "estimated time left for trials" in plan_output and "cannot be estimated" not in plan_output
    ), plan_output
    table = run(*sweep, "--space", "own.yaml", *plugin, cwd=tmp_path)
    assert "own: the answer" in table and "l2" in table, table
    code = (
        "import reports; from mlflow import MlflowClient;"
        "uri = 'sqlite:///mlflow.db'; study = reports.load_study('own', uri);"
        "assert len(study.rows) == 4, study.rows;"
        "c = MlflowClient(uri); e = c.get_experiment_by_name('own').experiment_id;"
        "runs = [r for r in c.search_runs([e]) if r.data.tags['ship.kind'] == 'trial'];"
        "print({r.data.tags['ship.plugins'] for r in runs})"
    )
    tags = run(python, "-c", code, cwd=tmp_path)
    assert "generator residual_text: ship-example 0.1; finetuner ridge: ship-example 0.1" in tags
    assert "dataset shapes: ship-example 0.1" in tags

    report = run(python, "-c", "from reports.cli import main; main()", "own", cwd=tmp_path)
    assert "l2" in report, report  # a report needs no plugin
