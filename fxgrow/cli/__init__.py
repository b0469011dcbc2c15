"""The command line: its arguments, its commands, and how arguments become models, inputs and files.

In: arguments from a shell. Out: text or JSON on standard output and an exit status. Each command calls the public
functions of `fxgrow.api` and `fxgrow.examine`; an error is reported in one line, without a traceback.
"""
