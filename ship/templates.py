"""Templates: sentences with one {} for a class name, and named sets of them.

A class's text feature is the mean of its sentences' features (arXiv:2103.00020, sec. 3.1.4).
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

DATASET_TEMPLATE: Final = "dataset"
"""Entry in a list of templates that is replaced by the template of the dataset."""
ENSEMBLE: Final = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""Templates that CLIP's authors found by forward selection among their 80 for ImageNet, where they
perform "a bit better than the full 80" (openai/CLIP,
notebooks/Prompt_Engineering_for_ImageNet.ipynb)."""
NAMES: Final = (DATASET_TEMPLATE, "ensemble", "authors")
"""Names that a list of templates may contain in addition to templates."""
_MAX_CHARS: Final = 1000
"""Maximum length of a template."""

_IMAGENET: Final = ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
_TEXTURE: Final = ("a photo of a {}, a type of texture.",)
# Fine-tuners, datasets, and the templates that the code of the fine-tuners' authors uses for them.
# A pair is omitted if that code uses the template of the dataset, which is CoOp's. ImageNet's
# variants have ImageNet's classifier and therefore its templates. Sources on GitHub:
# - datasets/imagenet.py of gaopengcuhk/Tip-Adapter, mrflogs/ICLR24 (GDA) and
#   FereshteShakeri/FewShot-CLIP-Strong-Baseline (LP++)
# - jusiro/CLAP, trainers/adapters.py
# - Koorye/DePT, trainers/kgcoop.py (identical to KgCoOp's)
# - htyao89/Textual-based_Class-aware_prompt_tuning, trainers/tcp.py
_AUTHORS_ROWS: Final = (
    (("tip_adapter", "tip_adapter_f", "gda", "lp_plus_plus"), _IMAGENET, ENSEMBLE),
    (("zs_lp", "clap"), _IMAGENET, (*ENSEMBLE, "a photo of a {}.")),
    (("kgcoop", "kgcoop_dept", "tcp"), ("dtd",), _TEXTURE),
    (("tcp",), ("food101",), ("a photo of a {}, a type of food.",)),
    (("tcp",), ("fgvc_aircraft",), ("a photo of an aircraft {}.",)),
)
AUTHORS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    key: templates
    for methods, datasets, templates in _AUTHORS_ROWS
    for key in product(methods, datasets)
}
"""Fine-tuner and dataset -> templates of the authors' code, if they differ from the dataset's."""


def has_control_characters(text: str) -> bool:
    """Return True if a text has control characters or lone surrogates."""
    return any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def validate_template(text: str) -> str:
    """Check a template or one of NAMES, and return it with each run of white space as one space.

    This does not change results: CLIP's tokenizer does the same.

    Raises:
        ValueError: The text is neither a template nor one of NAMES, is too long, or has control
            characters.
    """
    text = " ".join(text.split())
    if text not in NAMES and text.count("{}") != 1:
        names = ", ".join(NAMES)
        raise ValueError(f"must have one {{}} for a class name, or be one of {names}")
    if len(text) > _MAX_CHARS:
        raise ValueError(f"must have at most {_MAX_CHARS} characters")
    if has_control_characters(text):
        raise ValueError("must have no control characters")
    return text


def expand_templates(templates: Sequence[str], finetuner: str, dataset: str) -> Iterator[str]:
    """Replace the names "ensemble" and "authors" in a list of templates by their templates.

    The name DATASET_TEMPLATE is kept: the caller replaces it by the dataset's template. If the
    authors' code uses the dataset's template, "authors" is replaced by DATASET_TEMPLATE.

    Args:
        templates: Templates, and entries of NAMES.
        finetuner: Name of the fine-tuner, for the name "authors".
        dataset: Name of the dataset, for the name "authors".

    Yields:
        The templates.
    """
    for template in templates:
        if template == "authors":
            yield from AUTHORS.get((finetuner, dataset), (DATASET_TEMPLATE,))
        elif template == "ensemble":
            yield from ENSEMBLE
        else:
            yield template


def fill_template(template: str, class_name: str) -> str:
    """Insert a class name at the {} of a template. Other braces are unchanged."""
    return template.replace("{}", class_name)


def fill_templates(templates: Sequence[str], class_names: Sequence[str]) -> list[list[str]]:
    """Return the sentences of each class, one per template."""
    return [[fill_template(template, name) for template in templates] for name in class_names]
