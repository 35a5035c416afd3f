"""Figures of papers, to stand beside what a study measures.

All are of base-to-new generalisation with CLIP's ViT-B/16 (OpenAI's weights) and 16 shots, on the
eleven datasets of CoOp. Where a figure could not be looked up in the paper, it says so.
"""

from dataclasses import dataclass
from typing import Final

PROTOCOL: Final = "base_to_new"
BACKBONES: Final = ("ViT-B-16-quickgelu:openai", "ViT-B-16:openai")
SHOTS: Final = "16"
# In the order of the figures below.
DATASETS: Final = (
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "flowers102",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
AVERAGE_OF_ALL: Final = "average of 11"

_CLIP = "CoCoOp, arXiv:2203.05557"
_DEPT = "DePT, arXiv:2309.07439"
_SHIP = "SHIP, arXiv:2307.07397"
_TCP = "TCP, arXiv:2311.18231"


@dataclass(frozen=True)
class Published:
    """A method's accuracies on one dataset, or their averages over all of them, in percent.

    verified: whether the figure was seen in the paper or its log; else it is as reported by others.
    """

    base: float
    new: float
    source: str
    verified: bool

    @property
    def harmonic_mean(self) -> float:
        """2BN / (B + N); of averages, as the papers have it."""
        return 2 * self.base * self.new / (self.base + self.new)

    @property
    def said(self) -> str:
        """The source as a table has it."""
        return self.source if self.verified else f"{self.source}; as reported, unverified"


def _each(source: str, *figures: tuple[float, float]) -> dict[str, Published]:
    pairs = zip(DATASETS, figures, strict=True)
    return {name: Published(base, new, source, verified=False) for name, (base, new) in pairs}


def _mean(base: float, new: float, source: str, *, verified: bool = True) -> dict[str, Published]:
    return {AVERAGE_OF_ALL: Published(base, new, source, verified)}


# (fine-tuner, generator) -> dataset -> figures
FIGURES: Final[dict[tuple[str, str], dict[str, Published]]] = {
    ("zero_shot", "none"): _mean(69.34, 74.22, _CLIP)
    | _each(
        _CLIP,
        (72.43, 68.14),
        (96.84, 94.00),
        (91.17, 97.26),
        (63.37, 74.89),
        (72.08, 77.80),
        (90.10, 91.22),
        (27.19, 36.29),
        (69.36, 75.35),
        (53.24, 59.90),
        (56.48, 64.05),
        (70.53, 77.50),
    ),
    ("coop", "none"): _mean(82.69, 63.22, _CLIP)
    | _each(
        _CLIP,
        (76.47, 67.88),
        (98.00, 89.81),
        (93.67, 95.29),
        (78.12, 60.40),
        (97.60, 59.67),
        (88.33, 82.26),
        (40.44, 22.30),
        (80.60, 65.89),
        (79.44, 41.18),
        (92.19, 54.74),
        (84.69, 56.05),
    ),
    ("cocoop", "none"): _mean(80.47, 71.69, _CLIP)
    | _each(
        _CLIP,
        (75.98, 70.43),
        (97.96, 93.81),
        (95.20, 97.69),
        (70.49, 73.59),
        (94.87, 71.75),
        (90.70, 91.29),
        (33.41, 23.71),
        (79.74, 76.86),
        (77.01, 56.00),
        (87.49, 60.04),
        (82.33, 73.45),
    ),
    ("coop", "vae"): _mean(80.03, 73.69, _SHIP, verified=False)
    | _each(
        _SHIP,
        (75.87, 69.95),
        (97.55, 95.20),
        (95.37, 97.87),
        (68.57, 73.90),
        (94.02, 74.40),
        (90.54, 91.03),
        (34.27, 32.33),
        (79.54, 75.27),
        (74.88, 56.88),
        (88.62, 66.87),
        (81.08, 76.85),
    ),
    ("kgcoop", "none"): _mean(80.73, 73.60, "KgCoOp, arXiv:2303.13283"),
    ("coop_dept", "none"): _mean(83.66, 71.82, _DEPT, verified=False),
    ("kgcoop_dept", "none"): _mean(83.62, 75.04, _DEPT, verified=False),
    ("tcp", "none"): _mean(84.13, 75.36, _TCP, verified=False),
    ("clip_adapter", "none"): _mean(83.05, 65.20, _SHIP, verified=False),
    ("clip_adapter", "vae"): _mean(83.14, 67.77, _SHIP, verified=False),
    ("tip_adapter", "vae"): _mean(83.80, 76.42, _SHIP, verified=False),
    ("gda", "none"): _mean(
        83.96, 74.53, "the log in github.com/mrflogs/ICLR24 (ImageNet's chosen on test pictures)"
    ),
}
