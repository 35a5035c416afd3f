"""Which setting selection would take, had the study to name one."""

from reports.read import Study, heading
from reports.tables.added import is_added
from reports.tables.groups import Group, factor_labels, setting_groups, spelled


def by_preference(study: Study) -> list[tuple[float, Group]]:
    """(mean selection score, setting), the best first; settings without a score are left out."""
    score = f"selection/{study.objective}"
    found = []
    for group in setting_groups(study):
        done = group.done
        values = done[score].drop_nulls().to_list() if score in done.columns else []
        if values and len(values) == len(done):
            found.append((sum(values) / len(values), group))
    return found


def preferred_note(study: Study) -> list[str]:
    """A line that names the setting with the best selection score; [] where there are not two.

    A part of a study that leaves settings aside does not know which one that is.
    """
    found = by_preference(study) if study.factors and not study.aside else []
    if len(found) < 2:
        return []
    (best, group), (second, _) = found[:2]
    ran = ", which --path ran" if is_added(group) else ""
    name = f"{spelled(group, factor_labels(study))}{ran}"
    head = heading(study.protocol, study.objective)
    return [
        f"selection alone would take {name}: sel. {head} {best:.1f}, {best - second:.1f} above the"
        " next"
    ]
