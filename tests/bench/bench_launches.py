"""python -m tests.bench.bench_launches [--places]: what a step asks of a GPU, counted without one.

Launches of kernels, times that the host waits for the device, and bytes sent to it, of a generator
step, a CoOp step with synthesis and an evaluation; ViT-B/16 with random weights, 100 classes,
3 seeds fused. The device is emulated (tests.emulated): the counts are of torch's operators, exact
and the same on every machine; nothing here is a time. With --places also the lines they come from.
A count above its budget ends the program with code 1.
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
from ship.finetuners.prompts import CoOp
from ship.finetuners.tune import BatchedFinetuner
from ship.trial.selection import evaluate_choices
from tests.bench.steps import Sizes, Steps
from tests.emulated import Counts, EmulatedDevice, Event, emulated_device, why_missing

BACKBONE: Final = "ViT-B-16-quickgelu:random"
# Launches and waits that a step may have, of a tower of twelve layers.
BUDGET: Final = {
    "generator step": (700, 0),
    "CoOp step with synthesis": (700, 0),
    "evaluation": (300, 1),
}


@dataclass(frozen=True)
class Counted:
    """What one step asked of the device."""

    name: str
    counts: Counts

    def over(self) -> str:
        """What it does beyond its budget; "": nothing."""
        (launches, waits), counts = BUDGET[self.name], self.counts
        if counts.n_launches <= launches and counts.n_syncs <= waits:
            return ""
        return (
            f"{self.name}: {counts.n_launches} launches, {counts.n_syncs} host waits; the budget is"
            f" {launches} launches and {waits} host waits"
        )


def counted(backbone: str, sizes: Sizes, precision: Precision = "fp32") -> list[Counted]:
    """Each step on an emulated device; [] where this torch has none.

    Args:
        backbone: NAME:PRETRAINED, or pocket.
        sizes: of the data and the batches.
        precision: of the text tower.
    """
    reason = why_missing()
    if reason is not None:
        Console().print(reason)
        return []
    with emulated_device() as device:
        clip = FrozenCLIP.load(backbone, device=device.name, precision=precision)
        return [Counted(name, counts) for name, counts in steps(device, clip, sizes)]


def steps(device: EmulatedDevice, clip: FrozenCLIP, sizes: Sizes) -> Iterator[tuple[str, Counts]]:
    """Each step once, after one in which what is kept is made.

    Args:
        device: that the steps are taken on.
        clip: the backbone on the device.
        sizes: of the data and the batches.
    """
    ours = Steps(clip, sizes)
    eval_set = ours.protocol.selection
    assert eval_set is not None
    configurations = CoOpConfig(n_ctx=sizes.n_ctx, batch_size=sizes.coop_batch)
    chosen = BatchedFinetuner(CoOp, configurations, eval_set.task, None, clip, ours.seeds)
    taken: dict[str, Callable[[], object]] = {
        "generator step": ours.take_generator_step,
        "CoOp step with synthesis": ours.take_coop_step,
        "evaluation": lambda: evaluate_choices(chosen, eval_set, ours.protocol),
    }
    for name, step in taken.items():
        step()
        with device.counting() as counts:
            step()
        yield name, counts


def table(counts: list[Counted], title: str) -> Table:
    """A row for each step."""
    result = Table("step", "launches", "host waits", "KiB sent", "KiB fetched", title=title)
    for row in counts:
        numbers = (row.counts.n_launches, row.counts.n_syncs)
        kib = (row.counts.sent / 1024, row.counts.fetched / 1024)
        result.add_row(row.name, *(f"{n:,}" for n in numbers), *(f"{n:,.1f}" for n in kib))
    return result


def places(counted: Counted, most: int) -> Table:
    """The lines of a step that wait, and those that launch most.

    Args:
        counted: a step.
        most: lines with launches that are listed.
    """
    result = Table("line", "launches", "of which", title=counted.name)
    by_line: dict[str, Counter[str]] = {}
    for event, n in counted.counts.launches.items():
        by_line.setdefault(event.where, Counter())[event.what] += n
    for line, operators in sorted(by_line.items(), key=lambda item: -item[1].total())[:most]:
        operators_text = ", ".join(f"{n} {operator}" for operator, n in operators.most_common(6))
        result.add_row(line, f"{operators.total():,}", operators_text)
    result.add_section()
    waits: list[tuple[Event, int]] = counted.counts.syncs.most_common()
    for event, n in waits:
        result.add_row(event.where, "", f"{n} waits: {event.what}")
    return result


def show(backbone: str, sizes: Sizes, precision: Precision = "fp32", most: int = 0) -> None:
    """Print the table; SystemExit where a count is above its budget.

    Args:
        backbone, sizes, precision: as counted() takes them.
        most: lines with launches that are listed for each step; 0: none.
    """
    counts, console = counted(backbone, sizes, precision), Console()
    console.print(table(counts, f"{backbone}, {precision}, {sizes.seeds} seeds"))
    for row in counts if most else ():
        console.print(places(row, most))
    if over := [row.over() for row in counts if row.over()]:
        raise SystemExit("\n".join(over))


def main() -> None:
    """Print the table, and the lines where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default=BACKBONE, help="NAME:PRETRAINED, or pocket")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--n-ctx", type=int, default=4, help="context tokens")
    parser.add_argument("--places", action="store_true", help="also by line")
    parser.add_argument("--most", type=int, default=25, help="lines that are listed")
    options = parser.parse_args()
    sizes = Sizes(n_ctx=options.n_ctx, seeds=options.seeds)
    show(options.backbone, sizes, options.precision, options.most if options.places else 0)


if __name__ == "__main__":
    main()
