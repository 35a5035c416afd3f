"""The time that `--dry-run` tells against the time that the study takes.

    python -m tests.bench.bench_estimates --data-root DIR

Six small studies with several datasets, generators and fine-tuners, some of whose features are
cached, and of which one goes on from finished trials. Of each the plan is made, and the command
run. In DIR lies Caltech-101, as a dataset and as a folder of pictures; without it all are on the
packaged pictures. Nothing else should run on the machine. --smoke takes tiny sizes, which say
nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.tracking import MlflowClient
from rich.console import Console

from harness.config import load_study
from harness.planning import Estimate
from harness.study import plan_study

BAND = (0.8, 1.25)
CALTECH = "caltech-101/101_ObjectCategories"
LENGTHS = "space.generator.n_ctx={choices: [16, 4, 1], baseline: 4}"
NO_LENGTHS = "space.generator.n_ctx=null"


@dataclass(frozen=True)
class Small:
    """A study.

    name: its experiment; studies of one name go on from each other.
    what: for people.
    overrides: of the packaged study prompt_len.
    seeds: how many.
    """

    name: str
    what: str
    overrides: Sequence[str]
    seeds: int = 3


@dataclass(frozen=True)
class Told:
    """What was told of a study, and what it took, seconds.

    compute: of all its trials that were run.
    wall: from the command's call until it returned.
    """

    study: Small
    estimate: Estimate
    compute: float
    wall: float

    def cells(self) -> Iterator[str]:
        """A row of the table."""
        told = self.estimate
        yield self.study.what
        yield from (f"{told.features or 0:.0f}", f"{told.start:.0f}")
        yield from (f"{told.compute:.0f}", f"{self.compute:.0f}")
        yield from (f"{told.wall:.0f}", f"{self.wall:.0f}")
        yield f"{told.wall / self.wall:.2f}"


def studies(data_root: Path | None) -> list[Small]:
    """The six, in the order in which they are run: a later one finds features of an earlier one."""
    large = "caltech101" if data_root else "photos"
    folder = f"image_folder:{CALTECH}" if data_root else "emoji"
    return [
        Small("photos", "photos, VAE, CLIP-Adapter, with reference arms", (LENGTHS,), seeds=4),
        Small("photos", "the same with two seeds more: finished trials are known", (LENGTHS,), 6),
        Small(
            "coop",
            "emoji, VAE, CoOp: two weights of the KL term",
            (
                NO_LENGTHS,
                "space.generator.kl_weight={choices: [0.1, 0.001], baseline: 0.001}",
                "reference_arms=false",
                "dataset=emoji",
                "finetuner={name: coop, epochs: 15}",
                "generator.epochs=10",
            ),
        ),
        Small(
            "tip",
            f"{large}, WGAN, Tip-Adapter-F: three numbers of shots",
            (
                NO_LENGTHS,
                "space.shots={choices: [4, 2, 1], baseline: 4}",
                "reference_arms=false",
                f"dataset={large}",
                "generator={name: wgan, epochs: 15}",
                "finetuner={name: tip_adapter_f, epochs: 20}",
            ),
        ),
        Small(
            "probe",
            f"{large}, VAE, linear probe: random search of eight learning rates",
            (
                NO_LENGTHS,
                "space.finetuner.lr={low: 0.0001, high: 0.1, log: true, baseline: 0.01}",
                "sampler=random",
                "trials=8",
                "reference_arms=false",
                f"dataset={large}",
                "finetuner={name: linear_probe, epochs: 60}",
                "generator.epochs=10",
            ),
            seeds=2,
        ),
        Small(
            "folder",
            f"{folder.partition(':')[0]}, VAE, KgCoOp: two prompt lengths, no views",
            (
                "space.generator.n_ctx={choices: [4, 1], baseline: 4}",
                "reference_arms=false",
                f"dataset={folder}",
                "views=0",
                "generator.epochs=10",
                "finetuner={name: kgcoop, epochs: 10}",
            ),
        ),
    ]


SMOKE = ("generator.epochs=1", "finetuner.epochs=1")


def told_and_taken(
    small: Small, folder: Path, data_root: Path | None, extra: Sequence[str]
) -> Told:
    """Plan a study, then run it, in a folder whose store and cache it shares with the others."""
    overrides = [f"name={small.name}", f"seeds={small.seeds}", *small.overrides, *extra]
    study = load_study("prompt_len.yaml", overrides, data_root)
    uri, cache = f"sqlite:///{folder}/mlflow.db", folder / "cache"
    plan = plan_study(study, data_root=data_root, tracking_uri=uri, cache_dir=cache, say=print)
    if plan.estimate is None:
        raise SystemExit(f"{small.what}: there is no estimate")
    words = [word for one in overrides for word in ("--set", one)]
    command = [sys.executable, "-m", "harness.cli.main", "--space", "prompt_len.yaml", *words]
    root = ["--data-root", str(data_root.absolute())] if data_root else []
    called = time.time()
    subprocess.run(
        [*command, *root, "--cache-dir", str(cache)],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall = time.time() - called
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(small.name).experiment_id])
    new = [run for run in runs if run.info.start_time > 1000 * called]
    return Told(
        small, plan.estimate, sum(run.data.metrics.get("cost/seconds", 0.0) for run in new), wall
    )


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="where Caltech-101 lies")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--only", type=int, nargs="*", help="places of the studies, from 1")
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        "| study | features s | start, end s | compute told s | taken s | wall told s | taken s "
        "| told / taken |\n| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for place, small in enumerate(studies(options.data_root), 1):
            if options.only and place not in options.only:
                continue
            extra = SMOKE if options.smoke else ()
            found = told_and_taken(small, Path(name), options.data_root, extra)
            ratios.append(found.estimate.wall / found.wall)
            console.print("| " + " | ".join(found.cells()) + " |", markup=False)
    within = sum(BAND[0] <= ratio <= BAND[1] for ratio in ratios)
    console.print(f"{within} of {len(ratios)} within {BAND[0]} and {BAND[1]} of the truth")


if __name__ == "__main__":
    main()
