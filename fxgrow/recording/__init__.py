"""Running a module or a graph on the meta device and recording each ATen call.

In: a module tree or a graph, with inputs. Out: its calls with operators, constants and shapes, and a digest of every
value, by which two runs are compared. `run.TapedRun` is the only way to run: each stage passes its own subclass of
`Tape` or `Runner`. Knows how to run, but not what the calls mean for widths.
"""
