"""Draw images/concepts.svg, layers.svg, trial.svg and result.svg: python -m docs.draw_diagrams.

The layers are those of lint-imports in pyproject.toml. tests/test_docs.py fails if a drawing
differs from what this module writes, or if a file that it names does not exist.
"""

import tomllib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
ROOT = Path(__file__).parents[1]
FILLS = {
    # part: color on light and on dark pages
    "harness": ("#dce8fb", "#2b4168"),
    "ship": ("#dff3e3", "#25503a"),
    "reports": ("#fbead6", "#5f4524"),
    "": ("#ececf2", "#41465a"),
}
INK, EDGE, PAPER = ("#1f2430", "#e4e7f0"), ("#5b6b8c", "#93a1c2"), ("#ffffff", "#1e2029")

NOTES = (
    "Each row imports only rows below it. Commas separate the modules of a row.",
    "harness imports ship; reports imports store and the rows below it.",
    "Only harness.cli imports reports.",
)

# The study on the page of concepts: number of seeds, and rows with True for controls.
SEEDS = 4
ROWS: tuple[tuple[str, bool], ...] = (
    ("n_ctx = 4 (baseline)", False),
    ("n_ctx = 1", False),
    ("n_ctx = 16", False),
    ("zero-shot", True),
    ("fine-tuner alone", True),
    ("text feature", True),
    ("real images (upper bound)", True),
)
# The parts that run a study: package, name, and purpose.
PARTS: tuple[tuple[str, str, str], ...] = (
    ("", "YAML", "desired state"),
    ("harness", "driver", "starts what is missing"),
    ("ship", "workers", "one trial each (Ray)"),
    ("", "store", "one run per trial (MLflow)"),
    ("reports", "report", "compares the rows"),
)

# The steps of a trial from its YAML to its table: package, step, and file or folder.
STEPS: tuple[tuple[str, str, str], ...] = (
    ("", "The user writes a study as YAML", "search_spaces/prompt_len.yaml"),
    ("harness", "The YAML is read and checked", "harness/config/load.py"),
    ("harness", "The plan lists what is missing in the store", "harness/planning/plan.py"),
    ("harness", "Image features are extracted once and cached", "harness/study/features.py"),
    ("harness", "The next configuration is chosen (grid or Optuna)", "harness/tuning/searcher.py"),
    ("harness", "Ray starts the trial on a worker", "harness/worker.py"),
    ("ship", "Fit, select an epoch, train again, test once", "ship/trial/run.py"),
    ("harness", "The driver receives the metrics of each epoch", "harness/tuning/monitor.py"),
    ("harness", "It collects them in one run", "harness/recording/trial_runs.py"),
    ("harness", "It writes the run, and waits for a store that is away", "harness/store"),
    ("", "MLflow stores the run", "mlflow.db, or a tracking server"),
    ("reports", "Runs become rows, one per seed", "reports/study/rows.py"),
    ("reports", "Rows become a table with intervals", "reports/tables/build.py"),
    ("reports", "The table becomes a page, files and a figure", "reports/render/files.py"),
)

# The steps of one result from the worker to MLflow, with their files in harness.
RESULT: tuple[tuple[str, str, str], ...] = (
    ("harness", "The worker sends the epochs of about a second together", "harness/worker.py"),
    ("harness", "Final numbers and correct predictions become plain data", "harness/messages.py"),
    ("", "Ray Tune sends them to the driver", "ray.tune"),
    ("harness", "The driver receives epochs and the end", "harness/tuning/monitor.py"),
    ("harness", "Epochs become points of curves, in a buffer", "harness/recording/trial_runs.py"),
    ("harness", "Final numbers get means, intervals and flags", "harness/recording/numbers.py"),
    ("harness", "The driver waits for a store that is away", "harness/store/study_store.py"),
    ("harness", "Updates become MLflow requests, the state last", "harness/store/run_update.py"),
    ("harness", "Each requires that this driver still has the lease", "harness/store/lease.py"),
    ("harness", "Failed requests are retried or reported", "harness/store/errors.py"),
    ("", "MLflow stores the run", "mlflow.db, or a tracking server"),
)


def draw_steps(steps: Sequence[tuple[str, str, str]], title: str) -> str:
    """Return steps from top to bottom as SVG."""
    width, height, gap = 640, 52, 16
    elements: list[str] = []
    for index, (package, step, file) in enumerate(steps):
        top = 20 + index * (height + gap)
        elements += _box(20, top, width - 40, height, package, step, file)
        if index + 1 < len(steps):
            elements.append(_arrow(width / 2, top + height, gap))
    return _svg(width, 20 + len(steps) * (height + gap), title, elements)


def draw_trial() -> str:
    """Return the steps of a trial from YAML to table as SVG."""
    return draw_steps(STEPS, "The steps of a trial from YAML to table")


def draw_result() -> str:
    """Return the steps of a result from the worker to MLflow as SVG."""
    return draw_steps(RESULT, "The steps of a result from the worker to MLflow")


def draw_concepts() -> str:
    """Return a table of configurations and seeds, and the parts that run a study, as SVG."""
    width, label, cell, height = 900, 260, 90, 34
    left, top = 150, 84
    right = left + label + SEEDS * cell
    elements = [_text(width / 2, 32, "Study: factor generator.n_ctx, three levels", size=19)]
    for seed in range(SEEDS):
        elements.append(
            _text(left + label + (seed + 0.5) * cell, top - 14, f"seed {seed}", size=14)
        )
    for index, (name, is_control) in enumerate(ROWS):
        y = top + index * (height + 6)
        elements += _box(left, y, label - 10, height, "reports" if is_control else "harness", name)
        for seed in range(SEEDS):
            x = float(left + label + seed * cell)
            elements += _box(x + 3, y, cell - 6, height, "ship", "result")
    n_controls = sum(is_control for _, is_control in ROWS)
    for text, middle in (
        ("configurations", (len(ROWS) - n_controls) / 2),
        ("controls", len(ROWS) - n_controls / 2),
    ):
        elements.append(_text(left - 70, top + middle * (height + 6), text, size=15, weight="bold"))
    elements.append(_text(right + 62, top + 22, "one row: a trial", size=14))
    bottom = top + len(ROWS) * (height + 6)
    note = "one column: the same images, splits and noise, so that rows are compared seed by seed"
    elements.append(_text(width / 2, bottom + 18, note, size=14))
    part_width = (width - 40) / len(PARTS)
    for index, (package, name, purpose) in enumerate(PARTS):
        x, y = 20 + index * part_width, bottom + 44
        elements += _box(x, y, part_width - 20, 52, package, name)
        elements.append(_text(x + (part_width - 20) / 2, y + 70, purpose, size=12))
        if index + 1 < len(PARTS):
            elements.append(_arrow_right(x + part_width - 20, y + 26, 20))
    return _svg(width, bottom + 132, "A study, its trials, and what runs them", elements)


def draw_layers() -> str:
    """Return the layers of the three packages as SVG; each imports only those below it."""
    packages = read_layers()
    box_width, height, gap = 300, 40, 12
    elements: list[str] = []
    for column, (package, rows) in enumerate(packages.items()):
        left = 20 + column * (box_width + 24)
        middle = left + box_width / 2
        elements.append(_text(middle, 34, package, size=19, weight="bold"))
        for index, row in enumerate(rows):
            top = 52 + index * (height + gap)
            elements += _box(left, top, box_width, height, package, row)
            if index + 1 < len(rows):
                elements.append(_arrow(middle, top + height, gap))
    n_rows = max(len(rows) for rows in packages.values())
    bottom = 52 + n_rows * (height + gap) + 18
    width = 40 + len(packages) * (box_width + 24) - 24
    elements += [_text(width / 2, bottom + 20 * i, line, size=14) for i, line in enumerate(NOTES)]
    return _svg(width, bottom + 40, "Layers of harness, ship and reports", elements)


def read_layers() -> dict[str, list[str]]:
    """Return each package's layers from the top, as configured for lint-imports."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    return {
        contract["containers"][0]: [
            row.replace(" : ", ", ").replace(" | ", ", ") for row in contract["layers"]
        ]
        for contract in contracts
        if "containers" in contract
    }


def _box(
    left: float, top: float, width: float, height: float, package: str, title: str, file: str = ""
) -> Iterator[str]:
    """Yield a box in the color of a package, with a title and the name of a file."""
    yield (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="7"'
        f' class="{package or "other"}"/>'
    )
    middle = top + height / 2
    yield _text(left + width / 2, middle - 4 if file else middle + 5, title, size=15)
    if file:
        yield _text(left + width / 2, middle + 16, file, size=13, family="monospace")


def _text(
    x: float, y: float, text: str, *, size: int, weight: str = "normal", family: str = "sans-serif"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}"'
        f' font-family="{family}" text-anchor="middle">{escape(text)}</text>'
    )


def _arrow(x: float, top: float, length: float) -> str:
    end = top + length - 1
    return f'<path d="M{x:g} {top:g}V{end:g}m-4 -5l4 5l4 -5"/>'


def _arrow_right(left: float, y: float, length: float) -> str:
    end = left + length - 1
    return f'<path d="M{left:g} {y:g}H{end:g}m-5 -4l5 4l-5 4"/>'


def _style(scheme: int) -> str:
    """Return the colors of a scheme (0: light, 1: dark) as CSS."""
    fills = (f".{part or 'other'}{{fill:{colors[scheme]}}}" for part, colors in FILLS.items())
    lines = f"text{{fill:{INK[scheme]}}}rect,path{{stroke:{EDGE[scheme]}}}"
    return f"{lines}{''.join(fills)}.paper{{fill:{PAPER[scheme]};stroke:none}}"


def _svg(width: float, height: float, title: str, elements: Sequence[str]) -> str:
    """Return a drawing in the colors of a light or a dark page.

    The drawing has its own background, so it is legible if the browser's color scheme differs from
    the page's.
    """
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width:g}" height="{height:g}" role="img"><title>{escape(title)}</title>'
    )
    dark = f"@media (prefers-color-scheme: dark){{{_style(1)}}}"
    style = f"<style>path{{fill:none}}{_style(0)}{dark}</style>"
    paper = f'<rect width="{width:g}" height="{height:g}" rx="10" class="paper"/>'
    return "\n".join([head, style, paper, *elements, "</svg>", ""])


def main() -> None:
    """Write the drawings."""
    IMAGES.joinpath("concepts.svg").write_text(draw_concepts(), encoding="utf-8")
    IMAGES.joinpath("layers.svg").write_text(draw_layers(), encoding="utf-8")
    IMAGES.joinpath("trial.svg").write_text(draw_trial(), encoding="utf-8")
    IMAGES.joinpath("result.svg").write_text(draw_result(), encoding="utf-8")


if __name__ == "__main__":
    main()
