"""The examples of the pages: YAML is a study, overrides of commands fit, Python blocks run."""

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
ELSEWHERE = {"plugins.md"}  # tests/third_party runs its code as an installed package
FRAGMENT = {"name": "example", "space": {"generator.n_ctx": [1, 4]}}
PLUGIN = ROOT / "docs" / "howto" / "custom-method.md"
SMALL = [
    *("seeds=2", "max_classes=8", "augmentations=0", "save_models=true", "resources.gpus=0"),
    *("space.generator.n_ctx=[1, 4, 16]", "generator.epochs=1", "finetuner.epochs=2"),
]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def studies(page: Path) -> Iterator[dict[str, Any]]:
    """The YAML of a page, as mappings; a block without factors gets one."""
    for block in blocks(page, "yaml"):
        yield {**FRAGMENT, **YAML(typ="safe").load(block)}


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The study and the overrides of each command of a page that needs no plugin."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    ((?:'[^']*'|[^'\n])*--space (?:'[^']*'|[^'\n])*)$", text, re.M):
        words = shlex.split(line.partition(" #")[0])
        pairs = itertools.pairwise(words)
        overrides = [value for option, value in pairs if option == "--set"]
        if "--plugin" not in words:
            yield words[words.index("--space") + 1], overrides


def fault(study: str | Mapping[str, Any], overrides: Sequence[str] = ()) -> str:
    """What is wrong with a study, without its datasets; "" if nothing is."""
    try:
        load_study(study, overrides, check_existence=False)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_yaml_and_command_is_a_study(page: Path) -> None:
    """Keys and values of each YAML block, and of each --set of a command, are valid."""
    page_studies = list(studies(page))
    assert not [text for study in page_studies if (text := fault(study))]
    for name, overrides in commands(page):
        packaged = (ROOT / "search_spaces" / name).exists()
        spaces = [name] if packaged else [*page_studies, FRAGMENT]
        assert not min((fault(space, overrides) for space in spaces), key=len), (name, overrides)


def test_wrong_examples_are_noticed(tmp_path: Path) -> None:
    """A wrong key in a YAML, and a wrong override, are each reported."""
    page = tmp_path / "page.md"
    page.write_text("```yaml\nshot: 4\n```\n\n    ship-sweep --space joint.yaml --set 'shots=x'\n")
    (study,), ((name, overrides),) = studies(page), commands(page)
    assert "shot is an unknown key" in fault(study)
    assert "shots must be" in fault(name, overrides)


@pytest.mark.slow
def test_each_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run one after another, in a folder with small finished studies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIP_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("kl_weight", "prompt_len"):
        space = ["space.generator.kl_weight=[0.001]"] if name == "kl_weight" else []
        overrides = [text for text in SMALL if name == "prompt_len" or "n_ctx" not in text]
        assert run_study(name, [*overrides, *space], in_process=True).complete
    (my_study,) = studies(ROOT / "README.md")
    assert run_study({**my_study, "name": "my_study"}, SMALL, in_process=True).complete
    from reports import load_study as read

    run_id = read("prompt_len").rows.filter(control="")["run_id"][0]
    method, *_ = blocks(PLUGIN, "python")
    Path("my_method.py").write_text(method)
    for name, image in zip(("first.jpg", "second.jpg"), read_images(), strict=False):
        image.save(name)
    # in a process of its own, since other tests leave a Ray with a made-up GPU in this one
    call = f"from tests.test_docs_examples import run_blocks; run_blocks({run_id!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stdout.decode()[-2000:] + ended.stderr.decode()[-2000:]


def run_blocks(run_id: str) -> None:
    """Run the Python blocks of all pages."""
    images = read_images()
    for page in PAGES:
        known: dict[str, Any] = {"images": images, "__name__": page.stem}
        for block in () if page.name in ELSEWHERE else blocks(page, "python"):
            exec(compile(block.replace("RUN_ID", run_id), str(page), "exec"), known)


def read_images() -> list[Any]:
    """Images of the packaged photographs, decoded."""
    from ship.datasets import load_dataset

    return [image.open() for image in load_dataset("photos").splits["test"].images[:4]]
