"""The measures of synthesized features: which they are, their headings and what they mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A column.

    beside: a second metric that stands behind the first, mostly the real features' own.
    drop: when it goes from a narrow terminal.
    meaning: for the footnote; "" where a neighbour's says it.
    percent: it is a percentage, and so is what stands beside it.
    """

    metric: str
    heading: str
    beside: str = ""
    drop: int = 0
    meaning: str = ""
    percent: bool = False

    @property
    def short(self) -> str:
        """The heading without what stands beside the measure."""
        return self.heading.split(" / ")[0]


MEASURES = (
    Measure(
        "cosine_to_mean", "cos / text", "text_cosine_to_mean",
        meaning="cos / text: cosine of synthetic to real class means / of text features to them",
    ),
    Measure("frechet", "Fréchet", meaning="Fréchet: squared, between Gaussians"),
    Measure("mmd", "MMD²", drop=4, meaning="MMD²: unbiased, so it may be below 0"),
    Measure(
        "precision", "prec.", drop=3,
        meaning="prec., recall, coverage: fractions, with density by k nearest neighbours",
    ),
    Measure("recall", "recall", drop=3),
    Measure("density", "density", drop=2),
    Measure("coverage", "coverage", drop=2),
    Measure(
        "real_to_synthetic", "real→syn.", drop=5,
        meaning="real→syn., syn.→real: percent right of class means of the one on the other",
        percent=True,
    ),
    Measure("synthetic_to_real", "syn.→real", percent=True),
    Measure(
        "recognised_by_pictures", "recognised", "recognised_by_text", drop=6,
        meaning="recognised: percent of synthetic features that a classifier over all classes"
        " takes for their own, by pictures / by text (class means of real test pictures /"
        " zero-shot text)",
        percent=True,
    ),
    Measure(
        "diversity", "diversity / real", "real_diversity",
        meaning="diversity / real: cosine distance within a class, synthetic / real",
    ),
    Measure(
        "effective_rank", "rank / real", "real_effective_rank", drop=1,
        meaning="rank / real: effective rank within classes, synthetic / real",
    ),
)  # fmt: skip
