"""python -m tests.gpu.emulated_counts: launches and host waits of steps on the emulated device.

This is a separate program, because torch would use the emulated device in place of CUDA to pin
memory.
"""

import json
from typing import Final

from tests.bench.bench_launches import count_steps
from tests.bench.steps import Sizes

BACKBONE: Final = "ViT-B-16-quickgelu:random"
SIZES: Final = Sizes(n_classes=20, shots=2, batch=8, coop_batch=8, latent=16, hidden=(32, 32))


def main() -> None:
    """Print [launches, waits] of each step as JSON, or {} if torch does not support the device."""
    steps = count_steps(BACKBONE, SIZES)
    print(json.dumps({step.name: [step.counts.n_launches, step.counts.n_syncs] for step in steps}))


if __name__ == "__main__":
    main()
