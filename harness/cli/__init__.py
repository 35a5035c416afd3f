"""ship-sweep on the command line: options, lists, the dry run, exit codes.

Answers for: refusing options that cannot be meant before anything heavy is imported, and for what
is printed at the end. main.main is the entry point; Python calls harness.study instead.
"""
