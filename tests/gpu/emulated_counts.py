"""python -m tests.gpu.emulated_counts: launches and host waits of steps on the emulated device.

It runs in a process of its own: torch prefers the emulated device to CUDA when it pins memory.
"""

import json
from typing import Final

from tests.bench.bench_launches import count_steps
from tests.bench.steps import Sizes

BACKBONE: Final = "ViT-B-16-quickgelu:random"
SIZES: Final = Sizes(n_classes=20, shots=2, batch=8, coop_batch=8, latent=16, hidden=(32, 32))


def main() -> None:
    """Print the launches and the host waits of each step as JSON.

    It is {} if torch has no such device.
    """
    steps = count_steps(BACKBONE, SIZES)
    print(json.dumps({step.name: [step.counts.n_launches, step.counts.n_syncs] for step in steps}))


if __name__ == "__main__":
    main()
