"""Options and keys that were removed, each with the sentence that says so and what to do instead.

A word of the table is an option (`--option`), a key of a YAML by its path (`group.key`), or a key
with its value (`key: value`). The command line and the reader of YAML files report the sentence
where the word is unknown to them. Light: nothing is imported here.
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
}
