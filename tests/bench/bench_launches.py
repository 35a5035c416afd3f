"""python -m tests.bench.bench_launches [--places]: GPU work of a step, counted without a GPU.

Kernel launches, waits of the host for the device, and bytes copied are counted for a generator
step, a CoOp step with synthesis and an evaluation, with a ViT-B/16 with random weights, 100 classes
and 3 seeds trained together. The device is emulated (tests.emulated): torch's operators are
counted, with the same result on every machine, and no time is measured. --places also prints the
lines of code. The exit code is 1 if a count exceeds its budget.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from ship.architectures import Precision
from ship.clip import FrozenCLIP
from ship.configs.finetuners import CoOpConfig
from ship.finetuners.batched import BatchedFinetuner
from ship.finetuners.prompts import CoOp
from ship.trial.selection import select_choices
from tests.bench.steps import Sizes, Steps
from tests.emulated import Counts, EmulatedDevice, Event, emulated_device, explain_absence

BACKBONE: Final = "ViT-B-16-quickgelu:random"
# Maximum numbers of launches and waits per step, with twelve transformer blocks.
BUDGET: Final = {
    "generator step": (700, 0),
    "CoOp step with synthesis": (700, 0),
    "evaluation": (300, 1),
}


@dataclass(frozen=True)
class StepCounts:
    """Counts of one step."""

    name: str
    counts: Counts

    def describe_excess(self) -> str:
        """Return a message if the step exceeds its budget, or ""."""
        (launches, waits), counts = BUDGET[self.name], self.counts
        if counts.n_launches <= launches and counts.n_syncs <= waits:
            return ""
        return (
            f"{self.name}: {counts.n_launches} launches, {counts.n_syncs} host waits; the budget is"
            f" {launches} launches and {waits} host waits"
        )


def count_steps(backbone: str, sizes: Sizes, precision: Precision = "fp32") -> list[StepCounts]:
    """Return the counts of each step, or [] if this torch does not support the emulated device.

    Args:
        backbone: NAME:PRETRAINED, or pocket.
        sizes: Sizes of data and batches.
        precision: Precision of the text encoder.
    """
    reason = explain_absence()
    if reason is not None:
        Console().print(reason)
        return []
    with emulated_device() as device:
        clip = FrozenCLIP.load(backbone, device=device.name, precision=precision)
        return [StepCounts(name, counts) for name, counts in run_steps(device, clip, sizes)]


def run_steps(
    device: EmulatedDevice, clip: FrozenCLIP, sizes: Sizes
) -> Iterator[tuple[str, Counts]]:
    """Yield the name and the counts of each step.

    Args:
        device: Device of the steps.
        clip: Backbone on the device.
        sizes: Sizes of data and batches.
    """
    steps = Steps(clip, sizes)
    eval_set = steps.protocol.selection
    assert eval_set is not None
    settings = CoOpConfig(n_ctx=sizes.n_ctx, batch_size=sizes.coop_batch)
    finetuner = BatchedFinetuner(CoOp, settings, eval_set.task, None, clip, steps.seeds)
    functions: dict[str, Callable[[], object]] = {
        "generator step": steps.take_generator_step,
        "CoOp step with synthesis": steps.take_coop_step,
        "evaluation": lambda: select_choices(finetuner, eval_set, steps.protocol),
    }
    for name, take_step in functions.items():
        take_step()  # fills caches
        with device.counting() as counts:
            take_step()
        yield name, counts


def make_table(counts: list[StepCounts], title: str) -> Table:
    """Return a table with a row per step."""
    result = Table("step", "launches", "host waits", "KiB sent", "KiB fetched", title=title)
    for row in counts:
        numbers = (row.counts.n_launches, row.counts.n_syncs)
        kib = (row.counts.sent / 1024, row.counts.fetched / 1024)
        result.add_row(row.name, *(f"{n:,}" for n in numbers), *(f"{n:,.1f}" for n in kib))
    return result


def make_line_table(step: StepCounts, max_lines: int) -> Table:
    """Return a table of the lines of code with most launches, and of all lines that wait.

    Args:
        step: Counts of a step.
        max_lines: Maximum number of lines with launches.
    """
    result = Table("line", "launches", "of which", title=step.name)
    by_line: dict[str, Counter[str]] = {}
    for event, n in step.counts.launches.items():
        by_line.setdefault(event.where, Counter())[event.what] += n
    for line, operators in sorted(by_line.items(), key=lambda item: -item[1].total())[:max_lines]:
        operators_text = ", ".join(f"{n} {operator}" for operator, n in operators.most_common(6))
        result.add_row(line, f"{operators.total():,}", operators_text)
    result.add_section()
    waits: list[tuple[Event, int]] = step.counts.syncs.most_common()
    for event, n in waits:
        result.add_row(event.where, "", f"{n} waits: {event.what}")
    return result


def print_counts(
    backbone: str, sizes: Sizes, precision: Precision = "fp32", max_lines: int = 0
) -> None:
    """Print the table of counts.

    Args:
        backbone: See count_steps.
        sizes: See count_steps.
        precision: See count_steps.
        max_lines: Maximum number of lines of code per step; 0 prints none.

    Raises:
        SystemExit: A count exceeds its budget.
    """
    counts, console = count_steps(backbone, sizes, precision), Console()
    console.print(make_table(counts, f"{backbone}, {precision}, {sizes.seeds} seeds"))
    for row in counts if max_lines else ():
        console.print(make_line_table(row, max_lines))
    if messages := [message for row in counts if (message := row.describe_excess())]:
        raise SystemExit("\n".join(messages))


def main() -> None:
    """Print the counts, and the lines of code if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default=BACKBONE, help="NAME:PRETRAINED, or pocket")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--n-ctx", type=int, default=4, help="context tokens")
    parser.add_argument("--places", action="store_true", help="also print the lines of code")
    parser.add_argument("--most", type=int, default=25, help="maximum number of lines")
    options = parser.parse_args()
    sizes = Sizes(n_ctx=options.n_ctx, seeds=options.seeds)
    print_counts(options.backbone, sizes, options.precision, options.most if options.places else 0)


if __name__ == "__main__":
    main()
