"""The command line of ship-sweep: the main command, its subcommands, messages and exit codes.

main.py declares the options of a run, commands.py the subcommands, and options.py the options that
several commands share. These modules import nothing heavy. The Python API is harness.study.
"""
