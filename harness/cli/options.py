"""Options that several commands of ship-sweep share. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="FILE",
        help="Required. The study: a YAML file, or the name of a packaged study (see ship-sweep "
        "list).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the YAML, e.g. shots=4, finetuner=coop, generator.epochs=5 or "
        "space.shots=null (no longer varies shots). Repeatable.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE|MODULE",
        help="Python file or importable module with custom generators, fine-tuners, datasets or "
        "metrics. It is imported, which runs its code. Repeatable.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder that contains the datasets' folders. Packaged datasets need none.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        metavar="DIR",
        help="Folder for cached features. A run also keeps its checkpoints there, unless --storage "
        "is set. Defaults to $SHIP_SWEEP_CACHE, or else to ~/.cache/ship-sweep.",
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print the log messages of Ray and MLflow.")
]
