"""What CLIP will read of a study's class names, for people to look at before anything runs."""

from itertools import chain, cycle, islice

from harness.planning import Fingerprints, Plan
from ship.architectures import as_read
from ship.templates import sentence

SHOWN = 3  # prompts of a dataset


def prompt_lines(plan: Plan, prints: Fingerprints) -> list[str]:
    """Three prompts of each dataset that is to be trained on or tested, as CLIP reads them."""
    found: dict[str, dict[str, list[str]]] = {}
    for config in [work.setting.config for work in plan.work]:
        for name in (config.dataset, *config.targets):
            pictures = prints.pictures(name)
            templates = config.templates_for(name, pictures.template)
            many = f"{len(pictures.class_names)} class names"
            many += f", {len(templates)} templates each" if len(templates) > 1 else ""
            shown = zip(pictures.class_names[:SHOWN], cycle(templates), strict=False)
            head = f"prompts of {name} ({many}), as {config.backbone} reads them"
            if texts := [sentence(template, class_name) for class_name, template in shown]:
                found.setdefault(config.backbone, {})[head] = texts
    lines = []
    for backbone, own in found.items():
        read = (f'"{text}"' for text in as_read(backbone, [*chain.from_iterable(own.values())]))
        lines += [f"{head}: {', '.join(islice(read, len(one)))}" for head, one in own.items()]
    return lines
