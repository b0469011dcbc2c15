"""The command line: its words, the commands, and how words become models, inputs and files.

In: arguments from a shell. Out: text or JSON on standard output and an exit status. Each command calls the public
functions of `fxgrow.api`; a reason is one line, without a traceback.
"""
