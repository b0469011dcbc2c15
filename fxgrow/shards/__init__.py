"""Growth of a model whose parameters are DTensors, shard by shard: no process ever holds a whole parameter.

In: a sharded model, a specification or a plan, and the optimizer that trains it, on every process. The plan is made on
the meta device, alike on each process; the processes tell one another whether they have one (`agreement`). Each then
knows from the plan which old rows every process needs, sends its own to the others (`exchange`), makes its new rows
from those alone (`fill_shards`), and grows the optimizer's state in the same way (`moments`). `units` repeats the calls
of `fully_shard`, and `batches` calibrates new norms. Out: the student, sharded as the teacher was.
"""
