"""Examples of the pages: YAML blocks and overrides are valid, and Python blocks run."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness import run_study
from harness.config.load import load_study
from harness.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SKIPPED_PAGES = {"plugins.md"}  # tests/third_party runs its code as an installed package
FRAGMENT = {"name": "example", "space": {"generator.n_ctx": [1, 4]}}
PLUGIN = ROOT / "docs" / "howto" / "custom-method.md"
SMALL = [
    *("seeds=2", "max_classes=8", "augmentations=0", "save_models=true", "resources.gpus=0"),
    *("space.generator.n_ctx=[1, 4, 16]", "generator.epochs=1", "finetuner.epochs=2"),
]


def find_blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def load_studies(page: Path) -> Iterator[dict[str, Any]]:
    """Yield each YAML block of a page as a study. Keys that it lacks are those of FRAGMENT."""
    for block in find_blocks(page, "yaml"):
        yield {**FRAGMENT, **YAML(typ="safe").load(block)}


def find_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the study and the overrides of each command of a page, except those with plugins."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    ((?:'[^']*'|[^'\n])*--space (?:'[^']*'|[^'\n])*)$", text, re.M):
        words = shlex.split(line.partition(" #")[0])
        pairs = itertools.pairwise(words)
        overrides = [value for option, value in pairs if option == "--set"]
        if "--plugin" not in words:
            yield words[words.index("--space") + 1], overrides


def find_fault(study: str | Mapping[str, Any], overrides: Sequence[str] = ()) -> str:
    """Return the error message of a study, or "". Datasets need not exist."""
    try:
        load_study(study, overrides, check_existence=False)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_yaml_blocks_and_overrides_are_valid(page: Path) -> None:
    """Overrides of a study that is not packaged are valid for at least one study of the page."""
    studies = list(load_studies(page))
    assert not [fault for study in studies if (fault := find_fault(study))]
    for name, overrides in find_commands(page):
        is_packaged = (ROOT / "search_spaces" / name).exists()
        candidates = [name] if is_packaged else [*studies, FRAGMENT]
        faults = [find_fault(study, overrides) for study in candidates]
        assert "" in faults, (name, overrides, faults)


def test_wrong_yaml_and_overrides_are_detected(tmp_path: Path) -> None:
    """The message names the wrong key."""
    page = tmp_path / "page.md"
    page.write_text("```yaml\nshot: 4\n```\n\n    ship-sweep --space joint.yaml --set 'shots=x'\n")
    (study,), ((name, overrides),) = load_studies(page), find_commands(page)
    assert "shot is an unknown key" in find_fault(study)
    assert "shots must be" in find_fault(name, overrides)


@pytest.mark.slow
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run one after another, in a folder with small finished studies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIP_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("kl_weight", "prompt_len"):
        space = ["space.generator.kl_weight=[0.001]"] if name == "kl_weight" else []
        overrides = [text for text in SMALL if name == "prompt_len" or "n_ctx" not in text]
        assert run_study(name, [*overrides, *space], in_process=True).complete
    (my_study,) = load_studies(ROOT / "README.md")
    assert run_study({**my_study, "name": "my_study"}, SMALL, in_process=True).complete
    from reports import load_study as load_results

    run_id = load_results("prompt_len").rows.filter(control="")["run_id"][0]
    method, *_ = find_blocks(PLUGIN, "python")
    Path("my_method.py").write_text(method)
    for name, image in zip(("first.jpg", "second.jpg"), load_images(), strict=False):
        image.save(name)
    # a separate process, because other tests start Ray with a fake GPU in this one
    call = f"from tests.test_docs_examples import run_blocks; run_blocks({run_id!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True)
    output = process.stdout.decode()[-2000:] + process.stderr.decode()[-2000:]
    assert process.returncode == 0, output


def run_blocks(run_id: str) -> None:
    """Run the Python blocks of all pages.

    Args:
        run_id: MLflow run ID that replaces RUN_ID in the blocks.
    """
    images = load_images()
    for page in PAGES:
        if page.name in SKIPPED_PAGES:
            continue
        names: dict[str, Any] = {"images": images, "__name__": page.stem}
        for block in find_blocks(page, "python"):
            exec(compile(block.replace("RUN_ID", run_id), str(page), "exec"), names)


def load_images() -> list[Any]:
    """Return four of the packaged photographs, decoded."""
    from ship.datasets import load_dataset

    return [image.open() for image in load_dataset("photos").splits["test"].images[:4]]
