"""Format a plan as text, as a data frame, and as HTML for notebooks."""

from html import escape
from typing import TYPE_CHECKING

from harness.planning.plan import Plan, PlanRow
from harness.wording import count, escape_controls_in_lines, format_duration

if TYPE_CHECKING:
    import polars as pl

_HEADINGS = ("configuration", "state", "seeds to run", "time")


def format_state(row: PlanRow) -> str:
    """Return a row's state as text: "3 of 5 seeds" if only some seeds failed, else e.g. "done"."""
    if row.state == "failed" and row.done:
        return f"{len(row.done)} of {len(row.done) + len(row.failed)} seeds"
    return row.state


def format_summary_lines(plan: Plan, *, is_local: bool) -> list[str]:
    """Return the lines below a plan's table: number of further proposals, and remaining time.

    Args:
        plan: The plan.
        is_local: Whether the study would run on this machine. If not, only the computation time is
            given, because the wall-clock time depends on the cluster.
    """
    lines = []
    estimate = plan.estimate
    if plan.n_proposals:
        proposals = count(plan.n_proposals, "more configuration")
        lines.append(f"{proposals} will be proposed by the sampler")
    if estimate is not None:
        time_left = f"about {format_duration(estimate.compute)} of computing"
        if is_local:
            wall = format_duration(estimate.wall)
            concurrent = count(estimate.n_concurrent, "trial")
            time_left = f"about {wall} on this machine, {concurrent} at once ({time_left})"
        finished = count(estimate.n_finished_trials, "finished trial")
        lines.append(f"estimated time left for trials: {time_left}; from {finished}")
    elif not plan.finished:
        lines.append(
            "estimated time left for trials: unknown until the first trial has finished "
            "(controls do not count)"
        )
    return lines


def plan_frame(plan: Plan) -> "pl.DataFrame":
    """Return a plan as a data frame with one row per configuration; see Plan.frame."""
    import polars as pl

    seconds = plan.estimate.seconds if plan.estimate else {}
    rows = [
        {
            "configuration": row.label,
            "control": row.configuration.control or None,
            "state": row.state,
            "seeds_to_run": list(row.seeds),
            "seeds_done": list(row.done),
            "seeds_failed": list(row.failed),
            "reason": row.reason or None,
            "seconds": seconds.get(row.configuration.key),
            "config_key": row.configuration.key,
        }
        for row in plan.rows
    ]
    texts = dict.fromkeys(("configuration", "control", "state"), pl.String)
    seeds = dict.fromkeys(("seeds_to_run", "seeds_done", "seeds_failed"), pl.List(pl.Int64))
    last_columns = {"reason": pl.String, "seconds": pl.Float64, "config_key": pl.String}
    return pl.DataFrame(rows, schema={**texts, **seeds, **last_columns})


def plan_html(plan: Plan, *, is_local: bool) -> str:
    """Return a plan as an HTML table, with its summary and notes as a list below.

    Args:
        plan: The plan.
        is_local: Whether the study would run on this machine, see `format_summary_lines`.
    """
    seconds = plan.estimate.seconds if plan.estimate else {}
    times = {key: format_duration(value) for key, value in seconds.items()}
    rows = [_make_html_row("th", _HEADINGS)]
    for row in plan.rows:
        seeds = ", ".join(map(str, row.seeds))
        time = times.get(row.configuration.key, "")
        rows.append(_make_html_row("td", (row.label, format_state(row), seeds, time)))
    lines = [*format_summary_lines(plan, is_local=is_local), *plan.notes]
    items = "".join(f"<li>{escape(escape_controls_in_lines(line))}</li>" for line in lines)
    return f"<table>{''.join(rows)}</table><ul>{items}</ul>"


def _make_html_row(element: str, texts: tuple[str, ...]) -> str:
    """Return a row of an HTML table.

    Args:
        element: HTML element of the cells, "th" or "td".
        texts: Text of each cell.
    """
    cells = "".join(
        f"<{element}>{escape(escape_controls_in_lines(text))}</{element}>" for text in texts
    )
    return f"<tr>{cells}</tr>"
