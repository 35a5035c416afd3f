"""ship-sweep --predict: what the models that a study has kept see in pictures of one's own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import store
from harness.config import parse_overrides, same
from harness.errors import ConfigError, UserError

if TYPE_CHECKING:
    import polars as pl

    from reports.read import Study

MOST_TOLD = 10  # settings, or pictures, that an error names


def predict(
    study: str,
    pictures: str | Path,
    setting: Sequence[str] = (),
    *,
    tracking_uri: str | None = None,
) -> "pl.DataFrame":
    """Name pictures by what a study with `save: true` has trained of one setting.

    Each seed's model gives probabilities of all classes, base and new; their mean decides.

    Args:
        study: its name.
        pictures: a file, or a folder, whose pictures are taken at any depth.
        setting: KEY=VALUE of factors that name one setting; (): the one that selection prefers.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.

    Returns:
        A row a picture, ordered by path: picture (its path, in a folder from there), class,
        probability (0 to 1), second_class, second_probability, seeds (models that were asked),
        seeds_agreeing (those that name this class by themselves).

    Raises:
        UserError: no such study, setting, folder or picture, or nothing was kept.
        ReportError: the store or the study cannot be read.
        ship.trial.TrainedError: what was kept cannot be used.
    """
    import polars as pl

    from reports.read import load_records

    uri = store.absolute_uri(tracking_uri or store.default_uri(Path.cwd()), Path.cwd())
    place = Path(pictures)
    files = _pictures(place)
    known = load_records(study, uri)
    runs = _runs(known, _chosen(known, setting))
    names = [path.relative_to(place).as_posix() if path != place else path.name for path in files]
    return pl.DataFrame({"picture": names, **_seen(runs, files, uri)})


def _pictures(place: Path) -> list[Path]:
    """The files of pictures, by path; hidden ones and those of other endings are passed over."""
    from ship.datasets import SUFFIXES

    if not place.exists():
        raise UserError(f"{place}: there is no such file or folder")
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*"))
    wanted = [path for path in found if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not wanted:
        raise UserError(f"{place}: no pictures here ({', '.join(SUFFIXES)})")
    return wanted


def _chosen(study: "Study", asked: Sequence[str]) -> str:
    """The key of the one setting that is meant.

    Raises:
        UserError: none or several; with the choices.
    """
    from reports.tables import by_preference, factor_labels, short_names, spelled, tied_first

    ranked = by_preference(study)
    if asked:
        wanted = _wanted(study.name, asked, short_names(study))
        ranked = [(score, group) for score, group in ranked if _is_meant(group.value, wanted)]
        best = [group for _, group in ranked]
        which = f"--setting {' '.join(asked)} names"
    else:
        tied = tied_first([score for score, _ in ranked])
        best = [group for (_, group), one in zip(ranked, tied, strict=True) if one]
        which = "selection prefers"
    if len(best) == 1:
        return str(best[0].value.key)
    labels = factor_labels(study)
    names = [spelled(group, labels) for _, group in ranked or by_preference(study)]
    shown = "; ".join(names[:MOST_TOLD]) + (" ..." if len(names) > MOST_TOLD else "")
    fault = "several settings" if best else "no finished setting"
    way_out = f"name one by --setting KEY=VALUE (choices: {shown or 'none'})"
    raise UserError(f"study {study.name}: {which} {fault}; {way_out}")


def _wanted(study: str, asked: Sequence[str], names: Mapping[str, str]) -> dict[str, Any]:
    """factor key -> level, of KEY=VALUE by whole or short names.

    Raises:
        ConfigError: a line for each that cannot be meant.
    """
    keys = {short: key for key, short in names.items()} | {key: key for key in names}
    given, faults = parse_overrides(asked, "--setting")
    choices = ", ".join(names.values()) or "none"
    faults += [
        f"--setting: {one.path} must be a factor of {study} (choices: {choices})"
        for one in given
        if one.path not in keys
    ]
    if faults:
        raise ConfigError(faults)
    return {keys[one.path]: one.value for one in given}


def _is_meant(setting: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a setting has all the wanted levels; {name: ...} is meant by its name alone, too."""

    def meets(level: Any, value: Any) -> bool:
        return same(level, value) or (isinstance(level, dict) and level.get("name") == value)

    return all(
        key in setting.assignment and meets(setting.assignment[key], value)
        for key, value in wanted.items()
    )


def _runs(study: "Study", key: str) -> dict[int, str]:
    """seed -> the run that has its model."""
    from reports.contract import COMPLETE

    rows = study.rows.filter(setting_key=key, state=COMPLETE)
    runs = dict(zip(rows["seed"].to_list(), rows["run_id"].to_list(), strict=True))
    if not study.config.get("save"):
        raise UserError(
            f"study {study.name}: keeps nothing of what it trains; run it with --set save=true"
            " under another name (--set name=...)"
        )
    return runs


def _seen(runs: Mapping[int, str], files: Sequence[Path], uri: str) -> dict[str, list[Any]]:
    """The columns of predict() beside the pictures' names."""
    from ship.datasets import UndecodableError

    features: Any = None
    total: Any = 0.0
    votes: list[tuple[str, ...]] = []  # a seed's names of all pictures
    clip = None
    classes: tuple[str, ...] = ()
    for seed, run_id in runs.items():
        model = store.load_trained(f"runs:/{run_id}", seed, clip=clip, tracking_uri=uri)
        clip, classes = model.clip, model.class_names
        if features is None:
            try:
                features = model.encode(files)
            except UndecodableError as error:
                raise UserError("\n".join(_undecodable(files)) or str(error)) from error
        names, probabilities = model.predict(features)
        votes.append(names)
        total = total + probabilities.double()
    mean, places = (total / len(runs)).topk(min(2, len(classes)))
    best, second = ([classes[i] for i in places[:, rank].tolist()] for rank in (0, -1))
    agreeing = [own.count(name) for name, own in zip(best, zip(*votes, strict=True), strict=True)]
    return {
        "class": best,
        "probability": mean[:, 0].tolist(),
        "second_class": second,
        "second_probability": mean[:, -1].tolist(),
        "seeds": [len(runs)] * len(files),
        "seeds_agreeing": agreeing,
    }


def _undecodable(files: Sequence[Path]) -> Iterator[str]:
    """A line for each picture that cannot be decoded."""
    from ship.datasets import Picture, UndecodableError

    for path in files:
        try:
            Picture(path.name, path).open()
        except UndecodableError as error:
            yield f"{error}: cannot be decoded"
