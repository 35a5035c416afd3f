"""Messages for removed options and keys, with what to use instead.

A key of the table is an option (`--option`), the path of a YAML's key (`group.key`), or a key with
its value (`key: value`). The command line and the YAML loader print the message in place of an
error for an unknown option or key. Imports nothing.
"""

REMOVED = {
    "--new": (
        "--new was removed. Use --copy template, and change the YAML that it writes: "
        "each key has a comment."
    ),
    "--rename": (
        "--rename was removed. Change `name` in the YAML: the new study reuses the results of the "
        "old one."
    ),
    "--path": "--path was removed. The report has the best configuration and the factors' effects.",
    "--detect": (
        "--detect was removed. Set seeds before the study runs (--dry-run says what they will "
        "show), and look once."
    ),
    "--max-seeds": "--max-seeds was removed together with --detect. Set seeds instead.",
    "trials": "trials was renamed n_trials.",
    "max_failures": "max_failures was renamed max_consecutive_failures.",
    "concurrency": "concurrency was renamed max_concurrent_trials.",
    "time_limit": "time_limit was renamed trial_timeout.",
    "save": "save was renamed save_models.",
    "record": "record was renamed log.",
    "reference_arms": "reference_arms was renamed controls.",
    "resources: auto": (
        "resources: auto was removed. By default each trial takes one GPU if there is any. For a "
        "share, set resources.gpus, e.g. 0.25."
    ),
    "resources.auto": "resources.auto was removed. Leave it out, or set resources.gpus.",
    "--export": (
        "--export was removed. MLflow, the page and NAME-estimates.csv have the same numbers."
    ),
}
