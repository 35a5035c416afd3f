"""Messages for removed and renamed options and YAML keys, with what to use instead.

The command line and the YAML loader print a message of REMOVED in place of their error for an
unknown option, key or value. Imports nothing.
"""

# Old name (in the form of a key of REMOVED) -> new name.
_RENAMED = {
    "--list": "ship-sweep list",
    "--copy": "ship-sweep copy NAME",
    "--list-options": "ship-sweep options",
    "--list-backbones": "ship-sweep backbones",
    "--check": "ship-sweep check NAME",
    "--predict": "ship-sweep predict STUDY PATH",
    "--setting": "ship-sweep predict STUDY PATH --config KEY=VALUE",
    "--prefetch": "ship-sweep prefetch WHAT --space FILE",
    "--deploy": "ship-sweep deploy NAME",
    "trials": "n_trials",
    "max_failures": "max_consecutive_failures",
    "concurrency": "max_concurrent_trials",
    "time_limit": "trial_timeout",
    "save": "save_models",
    "record": "log",
    "reference_arms": "controls",
    "views": "augmentations",
    "selection: reference": "selection: authors",
    "synthetic.weight": "synthetic.loss_weight",
    "generator.dose": "generator.mean_shift",
    "generator.toward": "generator.shift_target",
    "generator.spread": "generator.spread_scale",
    "generator.neighbours": "generator.neighbors",
    "generator.centre": "generator.center",
    "finetuner.head_rate": "finetuner.head_lr_scale",
    "finetuner.rate": "finetuner.lr_scale",
    "finetuner.new_classes: neighbours": "finetuner.new_classes: neighbors",
    "finetuner.search": "finetuner.tune_on_validation",
    "finetuner.weight": "finetuner.kg_weight (kgcoop, kgcoop_dept, tcp) or "
    "finetuner.penalty_weight (clap, linear_adapter)",
    "finetuner.norm": "finetuner.init_norm (zs_lp, clap) or finetuner.head_norm (coop_dept, "
    "kgcoop_dept)",
}

# Removed or renamed name -> message. A name is a command-line option (`--option`), the dotted path
# of a YAML key (`group.key`), or a YAML key with one of its values (`key: value`).
REMOVED = {
    "--new": (
        "--new was removed. Use ship-sweep copy template, and edit the YAML that it writes: each "
        "key has a comment."
    ),
    "--rename": (
        "--rename was removed. Change `name` in the YAML: the study with the new name reuses the "
        "results of the old one."
    ),
    "--path": (
        "--path was removed. The report has the best configuration and the effects of the factors."
    ),
    "--detect": (
        "--detect was removed. Set seeds before the study runs; --dry-run prints the difference "
        "that this number of seeds can detect."
    ),
    "--max-seeds": "--max-seeds was removed together with --detect. Set seeds instead.",
    "resources: auto": (
        "resources: auto was removed. By default each trial uses one GPU if there is any. To give "
        "a trial a fraction of a GPU, set resources.gpus, e.g. 0.25."
    ),
    "resources.auto": "resources.auto was removed. Omit the key, or set resources.gpus.",
    "precision: fp16": (
        "precision: fp16 was removed, because gradients overflow without loss scaling. Use bf16."
    ),
    "synthetic.draw": (
        "synthetic.draw was replaced by synthetic.resample: false for fixed, true for fresh."
    ),
    "--export": (
        "--export was removed. MLflow, the report and its NAME-estimates.csv have the same numbers."
    ),
} | {old: f"{old} was renamed to {new}." for old, new in _RENAMED.items()}
