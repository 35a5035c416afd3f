"""A plan as text, as a data frame, and as HTML for notebooks."""

from html import escape
from typing import TYPE_CHECKING

from harness.planning.plan import Plan, PlanRow
from harness.wording import count, format_duration, printable_lines

if TYPE_CHECKING:
    import polars as pl

_HEADINGS = ("configuration", "state", "seeds to run", "time")


def state_text(row: PlanRow) -> str:
    """Return the state of a row; for failed rows with finished seeds, how many have finished."""
    if row.state == "failed" and row.done:
        return f"{len(row.done)} of {len(row.done) + len(row.failed)} seeds"
    return row.state


def summary_lines(plan: Plan, *, here: bool) -> list[str]:
    """Return the lines below a plan's table: further proposals, and the time that is left.

    Args:
        plan: The plan.
        here: Whether the study would run on this machine.
    """
    lines = []
    estimate = plan.estimate
    if plan.n_proposals:
        lines.append(f"{plan.n_proposals} more configurations will be proposed by the sampler")
    if estimate is not None:
        compute = f"about {format_duration(estimate.compute)} of computing"
        trials_text = count(estimate.n_concurrent, "trial")
        wall = f"about {format_duration(estimate.wall)} on this machine, {trials_text} at once"
        total = f"{wall} ({compute})" if here else compute
        trials = count(estimate.n_trials, "finished trial")
        lines.append(f"estimated time left for trials: {total}; from {trials}")
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


def plan_html(plan: Plan) -> str:
    """Return a plan as an HTML table, with the time that is left and the notes below it."""
    seconds = plan.estimate.seconds if plan.estimate else {}
    times = {key: format_duration(value) for key, value in seconds.items()}
    rows = [_html_row("th", _HEADINGS)]
    for row in plan.rows:
        seeds = ", ".join(map(str, row.seeds))
        time = times.get(row.configuration.key, "")
        rows.append(_html_row("td", (row.label, state_text(row), seeds, time)))
    lines = [*summary_lines(plan, here=True), *plan.notes]
    notes = "".join(f"<li>{escape(printable_lines(line))}</li>" for line in lines)
    return f"<table>{''.join(rows)}</table><ul>{notes}</ul>"


def _html_row(cell: str, texts: tuple[str, ...]) -> str:
    """Return a row of an HTML table.

    Args:
        cell: Name of the cells' element.
        texts: Text of each cell.
    """
    cells = "".join(f"<{cell}>{escape(printable_lines(text))}</{cell}>" for text in texts)
    return f"<tr>{cells}</tr>"
