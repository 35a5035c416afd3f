"""The command line of ship-sweep: options, lists, the dry run and exit codes.

Responsible for refusing invalid options before anything heavy is imported, and for the output at
the end. The entry point is main.main. The Python API is harness.study.
"""
