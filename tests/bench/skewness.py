"""Upper bound of the rate at which any test detects the skewed noise of bench_statistics.

It is the rate of the likelihood-ratio test of Neyman and Pearson, which knows both distributions
(lognormal noise, and normal noise with the same SD) and the effects of seeds. The means of the
levels and the scale of the noise, which are unknown in any study, are integrated out. This makes it
the most powerful test that does not depend on them (Lehmann and Romano 2005, chapter 6).
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ALPHA = 0.05
LOGNORMAL_SD = math.sqrt((math.e - 1) * math.e)  # SD of a lognormal variable with sigma 1
MEANS = np.linspace(-4, 6, 121)
SCALES = np.exp(np.linspace(-1.5, 1.5, 11))


def compute_max_detection_rate(
    levels: int, seeds: int, baseline_sd: float, studies: int, seed: int
) -> float:
    """Return the share of skewed studies that the test detects, with 5% false alarms.

    Args:
        levels: Number of levels with skewed noise, whose differences to the baseline are tested.
        seeds: Number of seeds per study.
        baseline_sd: SD of the baseline's normal noise, as a part of the levels' lognormal sigma.
        studies: Number of skewed studies, and of normal ones.
        seed: Seed of all draws.
    """
    rng, shape = np.random.default_rng(seed), (studies, levels, seeds)
    noise = rng.lognormal(0, 1, shape) - math.exp(0.5), rng.normal(0, LOGNORMAL_SD, shape)
    skewed, normal = (part + rng.normal(0, baseline_sd, (studies, 1, seeds)) for part in noise)
    bound = np.quantile(_compute_log_ratios(normal, baseline_sd), 1 - ALPHA)
    return float((_compute_log_ratios(skewed, baseline_sd) > bound).mean())


def _compute_log_ratios(differences: Array, baseline_sd: float) -> Array:
    """Return the log-likelihood ratio of each study."""
    points = np.linspace(-8, 60, 6801)
    step, shifted = points[1] - points[0], points + math.exp(0.5)
    logs = np.log(np.maximum(shifted, 1e-12))
    lognormal = np.where(shifted > 0, np.exp(-(logs**2) / 2 - logs), 0.0)
    n_kernel = int(4 * baseline_sd / step)
    kernel_points = np.arange(-n_kernel, n_kernel + 1) * step
    kernel = np.exp(-((kernel_points / baseline_sd) ** 2) / 2)
    convolved = np.convolve(lognormal, kernel, "same")
    skewed = np.log(np.maximum(convolved, 1e-300))
    normal = -(points**2) / 2 / (LOGNORMAL_SD**2 + baseline_sd**2)
    return _integrate(differences, points, skewed) - _integrate(differences, points, normal)


def _integrate(differences: Array, points: Array, log_density: Array) -> Array:
    """Return the log-likelihood of each study, integrated over means and scales."""
    _, levels, seeds = differences.shape
    by_scale = []
    for scale in SCALES:
        centered = differences[..., None] * scale - MEANS
        logs = np.interp(centered, points, log_density).sum(axis=2)
        log_likelihood = np.logaddexp.reduce(logs, axis=-1).sum(axis=1)
        by_scale.append(log_likelihood + levels * (seeds - 1) * math.log(scale))
    return np.asarray(np.logaddexp.reduce(np.stack(by_scale)))
