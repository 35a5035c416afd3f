"""Zero-shot CLIP with hand-written prompts, the baseline of every fine-tuner.

Hand-written prompts are the same for all datasets, specific to the dataset, or descriptions of the
classes. Descriptions come from a JSON file in CuPL's format (Pratt et al., arXiv:2209.03320;
github.com/sarahpratt/CuPL), which maps class names to lists of sentences. The text feature of a
class is the normalized mean of its sentences' unit-norm features.

Random words test whether the content of the descriptions matters, as in WaffleCLIP (Roth et al.,
arXiv:2306.07282, sec. 3; github.com/ExplainableML/WaffleCLIP). Each description is replaced by "a
photo of a NAME, " and as many random words as it has words. The i-th descriptions of all classes
get the same random words. Words are drawn from the whole file, which is one of the variants in the
authors' code. Their main variant draws words from a list, and adds random characters.
"""

import json
from collections.abc import Mapping, Sequence

from torch import Tensor

from ship.clip import FrozenCLIP, average_features
from ship.configs.finetuners import ZeroShotConfig
from ship.datasets.base import shorten_list
from ship.methods import Choice, Draw, Features, Finetuner, Logits
from ship.seeds import SeedRng
from ship.tasks import SeedTask
from ship.templates import ENSEMBLE, fill_templates

# Templates by value of the setting `templates`. "dataset" is omitted, because the task already has
# the text features of the dataset's templates.
_TEMPLATES = {"single": ("a photo of a {}.",), "ensemble": ENSEMBLE}


class ZeroShot(Finetuner):
    """Cosine to the text features of hand-written prompts.

    Attributes:
        text_features: Text features of the prompts, (n_cls, feature).
    """

    text_features: Tensor

    def __init__(
        self, config: ZeroShotConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        text = task.text_features
        if config.descriptions:
            text = average_features(clip, read_class_descriptions(config, task.class_names))
        elif config.templates != "dataset":
            text = average_features(
                clip, fill_templates(_TEMPLATES[config.templates], task.class_names)
            )
        # Text features of a file's descriptions are saved with the trial, because the file may be
        # missing later. ship.trial.model sets `descriptions` to "" to load them without the file.
        is_saved = config.descriptions is not None
        self.register_buffer("text_features", text.to(task.features.dtype), persistent=is_saved)

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine to the text features."""
        return self.logit_scale * images @ self.text_features.T


def read_class_descriptions(config: ZeroShotConfig, class_names: Sequence[str]) -> list[list[str]]:
    """Return the sentences of each class, from the file or with random words.

    Args:
        config: Settings with the file and the seed of random words.
        class_names: Names of the classes. They are looked up in the file ignoring case.

    Raises:
        ValueError: The file cannot be read, does not have the expected content, or lacks classes.
    """
    file, descriptions = _read_descriptions(config)
    by_name = {name.casefold(): sentences for name, sentences in descriptions.items()}
    lacking = [repr(name) for name in class_names if not by_name.get(name.casefold())]
    if lacking:
        raise ValueError(f"{file}: has no description of {shorten_list(lacking)}")
    sentences = [list(by_name[name.casefold()]) for name in class_names]
    if config.random_words is None:
        return sentences
    return _make_random_sentences(class_names, sentences, descriptions, config.random_words)


def _read_descriptions(config: ZeroShotConfig) -> tuple[str, Mapping[str, Sequence[str]]]:
    """Return the file's name and its checked content. The file is untrusted input."""
    name, content = config.read_descriptions()
    try:
        descriptions = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: is not JSON: {error}") from error
    is_valid = isinstance(descriptions, dict) and all(
        isinstance(texts, list) and all(isinstance(text, str) and text.strip() for text in texts)
        for texts in descriptions.values()
    )
    if not is_valid:
        raise ValueError(f"{name}: must map class names to lists of sentences")
    return name, descriptions


def _make_random_sentences(
    class_names: Sequence[str],
    sentences: Sequence[Sequence[str]],
    pool: Mapping[str, Sequence[str]],
    seed: int,
) -> list[list[str]]:
    """Replace each sentence by "a photo of a NAME, " and as many random words as it has words.

    Args:
        class_names: Names of the classes.
        sentences: Sentences of each class. Only their numbers of words are used.
        pool: Sentences by class name, from whose words the random words are drawn.
        seed: Seed of the draw.
    """
    words = sorted({word for texts in pool.values() for text in texts for word in text.split()})
    max_words = max(len(text.split()) for texts in sentences for text in texts)
    rng = SeedRng([seed], "descriptions/words")
    random_words = [
        [words[i] for i in rng.integers(len(words), max_words)[0].tolist()]
        for _ in range(max(map(len, sentences)))
    ]
    return [
        [
            f"a photo of a {name}, {' '.join(row[: len(text.split())])}"
            for text, row in zip(texts, random_words, strict=False)  # a class may have fewer texts
        ]
        for name, texts in zip(class_names, sentences, strict=True)
    ]
