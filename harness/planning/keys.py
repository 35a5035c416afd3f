"""The key of a setting: equal keys mean that equal seeds give equal numbers."""

import hashlib
import json

from ship.trial_config import RESULTS_VERSION, TrialConfig


def setting_key(trial: TrialConfig, dataset_fingerprint: str, backbone_fingerprint: str) -> str:
    """16 hexadecimal digits of SHA-256 over everything that, with a seed, decides a result.

    Args:
        trial: the resolved setting; every field counts, defaults too, so that a changed default
            is a changed setting.
        dataset_fingerprint: identity of the pictures and labels.
        backbone_fingerprint: identity of weights and architecture.
    """
    content = {
        "results_version": RESULTS_VERSION,
        "trial": trial.model_dump(mode="json"),
        "dataset": dataset_fingerprint,
        "backbone": backbone_fingerprint,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
