"""ship-sweep --new: five questions, and a YAML with comments that answers them."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import typer

from harness.config import backbone_defaults, load_study
from harness.errors import ConfigError, Fault, UserError
from harness.study_files import parse_value, write_for_user
from harness.wording import show
from reports.command import INTERRUPTED
from ship.configs import FINETUNERS

# What people call a factor -> its key, its levels, and its baseline with CLIP and with pocket.
VARIED = {
    "prompt length": ("generator.n_ctx", "[1, 2, 4, 8, 16]", "4", "4"),
    "KL weight": ("generator.kl_weight", "[0.001, 0.01, 0.1, 1]", "1", "1"),
    "latent size": ("generator.latent_dim", "[32, 128, 512]", "512", "128"),
    "generator": ("generator", "[none, vae, mlp_vae, wgan]", "vae", "vae"),
    "shots": ("shots", "[1, 2, 4, 8, 16]", "4", "4"),
}
GENERATOR = "{name: vae, n_ctx: 4, latent_dim: 512, kl_weight: 1, epochs: 50, batch_size: 256}"
TEMPLATE = Path(__file__).with_name("new_study.yaml")
# What is asked, in this order: the answer that is suggested, and the question.
QUESTIONS = {
    "dataset": ("photos", "Pictures: photos (packaged), image_folder:NAME (yours), or published"),
    "backbone": ("pocket", "CLIP: pocket (packaged, small), or BACKBONE:WEIGHTS"),
    "finetuner": ("clip_adapter", f"Fine-tuner: {', '.join(FINETUNERS)}"),
    "varies": ("prompt length", f"What varies: {', '.join(VARIED)}"),
    "seeds": ("5", "Seeds of each setting"),
}


def ask_and_write(plugins: Sequence[str], data_root: Path | None) -> None:
    """Ask what a study is to be about, and write its YAML here, as a new file.

    Args:
        plugins: files of plugins, whose names may be answers.
        data_root: where datasets lie.

    Raises:
        UserError: nobody can be asked, or it cannot be written.
        typer.Exit: who is asked has had enough.
    """
    if not somebody_is_there():
        raise UserError("--new asks questions, which needs a terminal")
    try:
        answers = _answers(data_root)
    except (typer.Abort, KeyboardInterrupt) as error:  # between questions, or within one
        typer.echo("\ninterrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from error
    stem = _stem(answers)
    names = (f"{stem}{f'-{number}' if number else ''}.yaml" for number in range(1000))
    path = next(path for path in map(Path, names) if not os.path.lexists(path))
    write_for_user(path, text_of(answers).encode())
    options = [("--plugin", file) for file in plugins]
    if data_root is not None:
        options.append(("--data-root", str(data_root)))
    say_written(path, options)


def _answers(data_root: Path | None) -> dict[str, str]:
    """What is answered, by the names of the questions; each answer is checked at once."""
    answers = {name: suggested for name, (suggested, _) in QUESTIONS.items()}
    for name, (_, question) in QUESTIONS.items():
        if name == "backbone" and answers["dataset"] not in ("photos", "emoji"):
            answers[name] = "ViT-B-16:openai"
        suggested = answers[name]
        while True:
            signal.siginterrupt(signal.SIGINT, True)  # polars has a read go on behind a Ctrl-C
            answers[name] = typer.prompt(question, default=suggested).strip()
            try:
                _check(answers, data_root)
            except ConfigError as error:
                typer.echo("\n".join(error.faults))
            else:
                break
    return answers


def text_of(answers: Mapping[str, str]) -> str:
    """The YAML of answers, by the names of the questions."""
    small, finetuner = answers["backbone"] == "pocket", answers["finetuner"]
    key, levels, baseline, small_baseline = VARIED[answers["varies"]]
    told = {"key": key, "levels": levels, "baseline": small_baseline if small else baseline}
    told["generator"] = _small_settings("generator", "vae", n_ctx=4) if small else GENERATOR
    told["finetuner"] = _small_settings("finetuner", finetuner) if small else finetuner
    told["description"] = _quoted(f"{answers['varies']} on {answers['dataset']}")
    told |= {name: _text(answers[name]) for name in ("dataset", "backbone")}  # which have paths
    return Template(TEMPLATE.read_text("utf-8")).substitute({**answers, **told})


def _small_settings(group: str, name: str, **more: Any) -> str:
    """Return a method as YAML, with its defaults on the packaged backbone.

    Args:
        group: generator or finetuner.
        name: The method's name.
        more: Settings in addition to the defaults.
    """
    defaults = backbone_defaults().get(f"{group}.{name}", {})
    settings = [f"{key}: {show(value)}" for key, value in {**more, **defaults}.items()]
    return f"{{{', '.join([f'name: {name}', *settings])}}}" if settings else name


def _text(answer: str) -> str:
    """An answer as YAML has a text: as it is, or quoted where that would read as something else."""
    try:
        return answer if parse_value(answer, "") == answer else _quoted(answer)
    except ConfigError:
        return _quoted(answer)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _check(answers: Mapping[str, str], data_root: Path | None) -> None:
    """Raise ConfigError where the answers make no study, with a line for each fault."""
    if answers["varies"] not in VARIED:
        fault = Fault("", "must be one of the choices", answers["varies"], tuple(VARIED))
        raise ConfigError([fault.line("this answer")])
    tree = parse_value(text_of(answers), "this answer")
    load_study({"name": _stem(answers), **tree}, (), data_root, label="this answer")


def _stem(answers: Mapping[str, str]) -> str:
    """What the file is called, and so the study; short enough for a number behind it."""
    stem = f"{VARIED[answers['varies']][0]}_{answers['dataset'].rpartition(':')[2]}"
    return re.sub(r"[^a-z0-9_-]+", "_", stem.lower())[:96]


def say_written(path: Path, options: Sequence[tuple[str, str]] = ()) -> None:
    """Say that a study's YAML was written, and how to look at its plan.

    Args:
        path: of the YAML.
        options: name and value of those that the study needs.
    """
    named = "".join(f" {option} {shlex.quote(value)}" for option, value in options)
    typer.echo(f"{path} is written. What it would run, and for how long:")
    typer.echo(f"  ship-sweep --space {path}{named} --dry-run")


def somebody_is_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirmed(question: str) -> bool:
    """A person's answer; no answer is no."""
    try:
        return typer.confirm(question, default=False)
    except typer.Abort:
        return False
