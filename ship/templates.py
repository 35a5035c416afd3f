"""Templates: sentences with one {} for a class name, those with a name, and those of authors' code.

A class's text feature is the mean of its sentences' (arXiv:2103.00020, sec. 3.1.4).
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

OWN: Final = "dataset"
"""Stands for the template that a dataset brings with it."""
ENSEMBLE: Final = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""Found by CLIP's authors by forward selection among their 80 ImageNet templates; "performs a bit
better than the full 80" there (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb)."""
NAMES: Final = (OWN, "ensemble", "authors")
MOST_LETTERS: Final = 1000

_IMAGENET: Final = ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
_TEXTURE: Final = ("a photo of a {}, a type of texture.",)
# Fine-tuners, datasets, and what the code has there: Tip-Adapter's of github.com/gaopengcuhk, GDA's
# (mrflogs/ICLR24) and LP++'s (FereshteShakeri/FewShot-CLIP-Strong-Baseline) datasets/imagenet.py;
# jusiro/CLAP, trainers/adapters.py; Koorye/DePT, trainers/kgcoop.py, which is KgCoOp's;
# htyao89/Textual-based_Class-aware_prompt_tuning, trainers/tcp.py. ImageNet's classifier is that of
# its relatives, too. Where they have CoOp's template, which the dataset brings, there is no line.
_LINES: Final = (
    (("tip_adapter", "tip_adapter_f", "gda", "lp_plus_plus"), _IMAGENET, ENSEMBLE),
    (("zs_lp", "clap"), _IMAGENET, (*ENSEMBLE, "a photo of a {}.")),
    (("kgcoop", "kgcoop_dept", "tcp"), ("dtd",), _TEXTURE),
    (("tcp",), ("food101",), ("a photo of a {}, a type of food.",)),
    (("tcp",), ("fgvc_aircraft",), ("a photo of an aircraft {}.",)),
)
AUTHORS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    key: found for methods, datasets, found in _LINES for key in product(methods, datasets)
}
"""Fine-tuner and dataset -> the templates of that fine-tuner's code, other than the dataset's."""


def has_control(text: str) -> bool:
    """Whether a text has commands to a terminal, or halves of characters (lone surrogates)."""
    return any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def sound_template(text: str) -> str:
    """A template, with single spaces for its white space as CLIP reads it, or one of NAMES.

    Raises:
        ValueError: it is neither, too long, or no text for a terminal.
    """
    text = " ".join(text.split())
    if text not in NAMES and text.count("{}") != 1:
        names = ", ".join(NAMES)
        raise ValueError(f"must have one {{}} for a class name, or be one of {names}")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"must have at most {MOST_LETTERS} characters")
    if has_control(text):
        raise ValueError("must have no control characters")
    return text


def spelled_out(templates: Sequence[str], finetuner: str, dataset: str) -> Iterator[str]:
    """What the names among some templates stand for; OWN stays, as the dataset alone has it."""
    for template in templates:
        if template == "authors":
            yield from AUTHORS.get((finetuner, dataset), (OWN,))
        elif template == "ensemble":
            yield from ENSEMBLE
        else:
            yield template


def sentence(template: str, class_name: str) -> str:
    """A template with a class name in the place of its {}; other braces stay as they are."""
    return template.replace("{}", class_name)


def written(templates: Sequence[str], class_names: Sequence[str]) -> list[list[str]]:
    """The sentences of each class, one for each template."""
    return [[sentence(template, name) for template in templates] for name in class_names]
