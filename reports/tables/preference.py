"""Which setting selection would take, had the study to name one."""

from reports.read import Study, heading
from reports.tables.groups import factor_labels, setting_groups, spelled


def preferred_note(study: Study) -> list[str]:
    """A line that names the setting with the best selection score; [] where there are not two."""
    score, own = f"selection/{study.objective}", [s for s in study.settings if not s.arm]
    if len(own) < 2 or not study.factors:
        return []
    found = []
    for group in setting_groups(study):
        done = group.done
        values = done[score].drop_nulls().to_list() if score in done.columns else []
        if values and len(values) == len(done):
            words = spelled(group, factor_labels(study))
            found.append((sum(values) / len(values), words))
    if len(found) < 2:
        return []
    (best, name), (second, _) = found[:2]
    head = heading(study.protocol, study.objective)
    return [
        f"selection alone would take {name}: sel. {head} {best:.1f}, {best - second:.1f} above the"
        " next"
    ]
