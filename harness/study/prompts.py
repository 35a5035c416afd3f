"""What CLIP will read of a study's class names, for people to look at before anything runs."""

from collections.abc import Sequence
from itertools import chain, cycle, islice

from harness.config import StudyConfig
from harness.planning import Fingerprints, Plan
from harness.study.features import configs_of
from ship.architectures import as_read
from ship.templates import sentence

SHOWN = 3  # prompts of a dataset
_DECIDING = ("backbone", "dataset", "targets", "templates", "finetuner")


def prompt_lines(study: StudyConfig, plan: Plan, prints: Fingerprints) -> list[str]:
    """Three prompts of each dataset that is to be trained on or tested, as CLIP reads them.

    A line for each backbone, dataset and templates; none where a method has its own sentences.
    """
    found: dict[str, dict[tuple[str, tuple[str, ...]], None]] = {}
    for config in configs_of(study, plan, _DECIDING):
        if config.finetuner.unread_reason("templates"):
            continue
        for name in (config.dataset, *config.targets):
            templates = config.templates_for(name, prints.pictures(name).template)
            found.setdefault(config.backbone, {})[name, templates] = None
    lines = []
    for backbone, own in found.items():
        texts = [_texts(prints.pictures(name).class_names, templates) for name, templates in own]
        read = (f'"{text}"' for text in as_read(backbone, [*chain.from_iterable(texts)]))
        for (name, templates), some in zip(own, texts, strict=True):
            many = f"{len(prints.pictures(name).class_names)} class names"
            many += f", {len(templates)} templates each" if len(templates) > 1 else ""
            shown = ", ".join(islice(read, len(some)))
            lines.append(f"prompts of {name} ({many}), as {backbone} reads them: {shown}")
    return lines


def _texts(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """A prompt of each of the first classes; several templates take turns."""
    shown = zip(class_names[:SHOWN], cycle(templates), strict=False)
    return [sentence(template, class_name) for class_name, template in shown]
