"""Zero-shot CLIP, the reference that every fine-tuner is held against, and its written prompts.

Hand-written prompts name no dataset, or are the dataset's own. Class descriptions come from a JSON
file in CuPL's form (Pratt et al., arXiv:2209.03320; github.com/sarahpratt/CuPL): class name -> list
of sentences. A class's text feature is the mean of its sentences' unit-norm features, normalised
again.

Whether their content matters is told by random words, after WaffleCLIP (Roth et al.,
arXiv:2306.07282, sec. 3; github.com/ExplainableML/WaffleCLIP): "a photo of a NAME, " and as many
random words as the description has, the same ones for the first description of every class, for the
second, and so on. They are drawn from the words of the whole file, which is one of the variants in
the authors' code; their main one has words of a list, and random characters.
"""

import json
from collections.abc import Mapping, Sequence

from torch import Tensor

from ship.clip import FrozenCLIP, mean_features
from ship.configs.finetuners import ZeroShotConfig
from ship.datasets.base import some
from ship.methods import Choice, Draw, Features, Finetuner, Logits
from ship.replicas import ReplicaRng
from ship.tasks import SeedTask
from ship.templates import ENSEMBLE, written

# Prompts by name; "dataset" is not among them: the task brings those text features with it.
_TEMPLATES = {"single": ("a photo of a {}.",), "ensemble": ENSEMBLE}


class ZeroShot(Finetuner):
    """Cosine to the text features of written prompts, (n_cls, feature)."""

    text_features: Tensor

    def __init__(
        self, config: ZeroShotConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        made = task.text_features
        if config.descriptions:
            made = mean_features(clip, described(config, task.class_names))
        elif config.templates != "dataset":
            made = mean_features(clip, written(_TEMPLATES[config.templates], task.class_names))
        # What a file has given is kept with the trial; the rest the backbone gives again. Also
        # for "", with which ship.trial.model restores what was kept without reading the file.
        kept = config.descriptions is not None
        self.register_buffer("text_features", made.to(task.features.dtype), persistent=kept)

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine."""
        return self.logit_scale * pictures @ self.text_features.T


def described(config: ZeroShotConfig, class_names: Sequence[str]) -> list[list[str]]:
    """The sentences of each class, as its file has them or of random words.

    Args:
        config: says which file, and whether words are random.
        class_names: of the classes, found in the file without regard to case.

    Raises:
        ValueError: the file cannot be read, is another one than is meant, or lacks classes.
    """
    file, found = _read(config)
    own = {name.casefold(): sentences for name, sentences in found.items()}
    lacking = [repr(name) for name in class_names if not own.get(name.casefold())]
    if lacking:
        raise ValueError(f"{file}: has no description of {some(lacking)}")
    made = [list(own[name.casefold()]) for name in class_names]
    if config.random_words is None:
        return made
    return _random(class_names, made, found, config.random_words)


def _read(config: ZeroShotConfig) -> tuple[str, Mapping[str, Sequence[str]]]:
    """The file's name and content, which may be somebody else's: bounded, and checked."""
    name, content = config.described()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: is no JSON: {error}") from error
    fits = isinstance(found, dict) and all(
        isinstance(own, list) and all(isinstance(text, str) and text.strip() for text in own)
        for own in found.values()
    )
    if not fits:
        raise ValueError(f"{name}: must map class names to lists of sentences")
    return name, found


def _random(
    class_names: Sequence[str],
    sentences: Sequence[Sequence[str]],
    pool: Mapping[str, Sequence[str]],
    seed: int,
) -> list[list[str]]:
    """Sentences of the same numbers of words, drawn from the words of all classes."""
    words = sorted({word for own in pool.values() for text in own for word in text.split()})
    longest = max(len(text.split()) for own in sentences for text in own)
    rng = ReplicaRng([seed], "descriptions/words")
    drawn = [
        [words[i] for i in rng.integers(len(words), longest)[0].tolist()]
        for _ in range(max(map(len, sentences)))
    ]
    return [
        [
            f"a photo of a {name}, {' '.join(row[: len(text.split())])}"
            for text, row in zip(own, drawn, strict=False)
        ]
        for name, own in zip(class_names, sentences, strict=True)
    ]
