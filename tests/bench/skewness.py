"""How often the best possible test sees the skewed noise of bench_statistics: an upper bound.

The likelihood-ratio test of Neyman and Pearson knows both distributions, lognormal and normal
noise of the same deviations, and the seeds' own parts. Unknown are what no test of a study can
know: the means of the levels and the scale of the noise. They are integrated out, which makes it
the most powerful test that does not depend on them (Lehmann and Romano 2005, chapter 6).
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ALPHA = 0.05
DEVIATION = math.sqrt((math.e - 1) * math.e)  # of a lognormal variable of sigma 1
MEANS = np.linspace(-4, 6, 121)
SCALES = np.exp(np.linspace(-1.5, 1.5, 11))


def oracle_rate(levels: int, seeds: int, quiet: float, studies: int, seed: int) -> float:
    """Return the share of skewed studies that the test sees, at 5% false alarms.

    Args:
        levels: Number of levels with skewed noise, whose differences to the baseline are tested.
        seeds: Number of seeds of a study.
        quiet: Deviation of the baseline's normal noise, as a part of the levels' lognormal sigma.
        studies: Number of skewed studies, and of normal ones.
        seed: Seed of all draws.
    """
    rng, shape = np.random.default_rng(seed), (studies, levels, seeds)
    noise = rng.lognormal(0, 1, shape) - math.exp(0.5), rng.normal(0, DEVIATION, shape)
    skewed, normal = (part + rng.normal(0, quiet, (studies, 1, seeds)) for part in noise)
    bound = np.quantile(_log_ratios(normal, quiet), 1 - ALPHA)
    return float((_log_ratios(skewed, quiet) > bound).mean())


def _log_ratios(differences: Array, quiet: float) -> Array:
    """Return the log-likelihood ratio of each study."""
    points = np.linspace(-8, 60, 6801)
    step, shifted = points[1] - points[0], points + math.exp(0.5)
    logs = np.log(np.maximum(shifted, 1e-12))
    lognormal = np.where(shifted > 0, np.exp(-(logs**2) / 2 - logs), 0.0)
    width = np.arange(-int(4 * quiet / step), int(4 * quiet / step) + 1) * step
    blurred = np.convolve(lognormal, np.exp(-((width / quiet) ** 2) / 2), "same")
    skewed = np.log(np.maximum(blurred, 1e-300))
    normal = -(points**2) / 2 / (DEVIATION**2 + quiet**2)
    return _integrated(differences, points, skewed) - _integrated(differences, points, normal)


def _integrated(differences: Array, points: Array, log_density: Array) -> Array:
    """Return the log-likelihood of each study, over all means and scales."""
    _, levels, seeds = differences.shape
    at_scales = []
    for scale in SCALES:
        moved = differences[..., None] * scale - MEANS
        logs = np.interp(moved, points, log_density).sum(axis=2)
        whole = np.logaddexp.reduce(logs, axis=-1).sum(axis=1)
        at_scales.append(whole + levels * (seeds - 1) * math.log(scale))
    return np.asarray(np.logaddexp.reduce(np.stack(at_scales)))
