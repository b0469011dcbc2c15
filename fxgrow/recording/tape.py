"""A tape: every ATen call of a run on meta tensors, with the values that it reads and makes.

Each value has a digest: a hash of its operator, the constants and the digests of the inputs. Two runs whose results
have equal digests compute the same function, whatever the order of their calls. A trace is compared with its model by
digests. Each value also has a number, in the order in which values are made. A student is compared with its plan by
these numbers, call by call. Neither needs the numbers in a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils import swap_tensors

from ..base.content import form_of, region_of, storage_of
from ..base.structures import leaf_tensors
from ..base.torch_private import TorchDispatchMode, is_composite, is_meta, no_dispatch_modes, pytree
from ..model.provenance import caller
from .call import WITHOUT_GRADIENTS, Call, Key, Reading, Shape
from .constants import computed, fingerprint_of, is_filled_later, like_on_meta, plain_value, written
from .meta_cache import META, Given, on_meta
from .operators import NUMBER, REVERSED, SELECT, Kind, kind_of, refused, results_of
from .recall import Recall
from .twins import Twins


class Tape(TorchDispatchMode):
    """Runs everything on the meta device and records each call.

    A value that depends on no input and no parameter is a constant. The calls that make it are not recorded. It is
    computed for real, and a call that reads it is recorded with the value's fingerprint. So a constant that `forward`
    makes equals one that a trace holds as an attribute.

    Args:
        names: The tensors that have a name of their own (parameters and buffers, on meta).
        attributes: Tensors that are plain attributes of modules; a write to one is state that no
            `state_dict` holds, and is refused.
        real: Run on the tensors as they are, where the model asks for the numbers in them.

    Attributes:
        recall: What slow calls on real tensors gave in earlier runs of the same model on the same arguments.
    """

    supports_higher_order_operators = True  # so that they reach it, and are refused with their line

    def __init__(self, names: Mapping[str, Tensor], attributes: Iterable[Tensor] = (), *, real: bool = False) -> None:
        super().__init__()
        self.real = real
        self.recall: Recall | None = None
        self._attributes = {storage_of(tensor) for tensor in attributes}
        self.calls: list[Call] = []
        self.site = ""  # where the run is: a node of a graph, or a layer
        self.inside: str | None = None  # the module whose own code is running, where no graph tells the place
        self.module = ""  # the innermost module at work
        self.called = False  # whether its own code is running, not a graph that its code was inlined into
        self.keepalive: list[Any] = list(names.values())  # keeps ids unique while the tape lives
        self._value_of: dict[int, int | str] = {id(tensor): name for name, tensor in names.items()}
        self.strangers: list[tuple[Tensor, str]] = []  # read, but neither named nor made by a call nor a constant
        self._meta_of: dict[int, Tensor] = {}
        self._real: dict[int, Tensor] = {}  # meta tensor: the constant that it stands for
        self._twins = Twins()
        self._fingerprints: dict[int, tuple[int, str, Tensor]] = {}  # constant: version of its data, print, itself
        self._digests: dict[int, int] = {id(tensor): hash(name) for name, tensor in names.items()}
        self._last_write: dict[int, int] = {}  # storage: the digest of what was last written to it in place
        self._random_calls = 0
        self._seed: int | None = None  # of the global generator when the run began
        self._written: dict[int, int] = {}  # storage: how often it was written in place
        self._read_at: dict[int, int] = {}  # tensor: that number when its value was made
        self._unknown: dict[int, int] = {}  # storage of a constant that something unknown was written to: a number
        self._count = 0
        self.gradients = True  # whether the user's code wants them for what it computes now
        self.failure: Exception | None = None  # the first of our own that the model's code met, and may have caught

    def __enter__(self) -> Any:
        self._seed = torch.initial_seed() if self._seed is None else self._seed
        return super().__enter__()

    def value_of(self, tensor: Tensor) -> int | str:
        """The number (or name) of the value that a tensor holds."""
        value = self._value_of.get(id(tensor))
        return self._new_value(tensor) if value is None else value

    def _stranger(self, tensor: Tensor) -> int | str:
        """The value of a tensor that no call of this run made: that of an alias, or a new one."""
        alias = self._alias_of(tensor)
        if alias is None:
            self.strangers.append((tensor, self.site))
            return self._new_value(tensor)
        self.keepalive.append(tensor)
        value = self._value_of[id(tensor)] = self._value_of[id(alias)]
        self._digests[id(tensor)] = self._digests.get(id(alias), 0)
        self._read_at[id(tensor)] = self._read_at.get(id(alias), 0)
        return value

    def _alias_of(self, tensor: Tensor) -> Tensor | None:
        """The tensor that another one is under a new name, as `as_subclass` and `nn.Parameter` make it."""
        memory, like = storage_of(tensor), form_of(tensor)
        ours = (other for other in reversed(self.keepalive) if id(other) in self._value_of)
        return next((other for other in ours if storage_of(other) == memory and form_of(other) == like), None)

    def _aliasing(self, tensor: Tensor, real: Tensor) -> str:
        """A name for a view that was made while its memory was a constant; something unknown was written there."""
        name = f"memory {self._unknown[storage_of(real)]}, {region_of(real)}"
        self._value_of[id(tensor)] = name
        self._digests[id(tensor)] = hash(name)
        return name

    def known(self, tensor: Tensor) -> int | str | None:
        """The same, if the tensor has one yet."""
        return self._value_of.get(id(tensor))

    def is_overwritten(self, tensor: Tensor) -> bool:
        """Whether an alias has written to its memory since the tensor was made."""
        return bool(self._written) and self._written.get(storage_of(tensor), 0) != self._read_at.get(id(tensor), 0)

    def constant(self, tensor: Tensor) -> Tensor | None:
        """The real value of a constant, or None."""
        real = self._real.get(id(tensor))
        if real is None or (self._unknown and storage_of(real) in self._unknown):
            return None
        self._twins.check(real, self)
        return real

    def _fingerprint(self, real: Tensor) -> str:
        known = self._fingerprints.get(id(real))
        version = 0 if real.is_inference() else real._version
        if known is None or known[0] != version or real.is_inference():
            known = self._fingerprints[id(real)] = (version, fingerprint_of(real), real)
        return known[1]

    def has_stale_constants(self) -> bool:
        """Whether a constant was written to beside every operator since a call has read it."""
        read = [known for known in self._fingerprints.values() if not known[2].is_inference()]
        return any(real._version == version and fingerprint_of(real) != text for version, text, real in read)

    def _new_value(self, tensor: Tensor) -> int:
        self.keepalive.append(tensor)
        self._count += 1
        self._value_of[id(tensor)] = self._count
        if self._written:
            self._read_at[id(tensor)] = self._written.get(storage_of(tensor), 0)
        return self._count

    def stand_for(self, copy: Tensor, original: Tensor) -> None:
        """A copy is the same value as what it was copied from, though no call made it."""
        self.keepalive.append(copy)
        self._value_of[id(copy)] = self._value_of[id(original)]
        self._digests[id(copy)] = self._digests.get(id(original), 0)

    def _reading(self, tensor: Tensor) -> tuple[Key, int]:
        """The value as it reads now (another one if its memory was written through an alias), and its digest."""
        real = self.constant(tensor) if self._real else None
        if real is not None:
            text = self._fingerprint(real)
            return text, hash(text)
        known = self._value_of.get(id(tensor))
        if not isinstance(known, str) and id(tensor) in self._real:
            known = self._aliasing(tensor, self._real[id(tensor)])
        value = self._stranger(tensor) if known is None else known
        own = self._digests.get(id(tensor), 0)
        if self._written:
            memory = storage_of(tensor)
            written = self._written.get(memory, 0)
            if written != self._read_at.get(id(tensor), 0):
                return (value, written), hash((own, self._last_write[memory]))
        return value, own

    def content(self, tensor: Tensor) -> Key:
        """What a tensor holds: the value that it reads as now, or the content of a constant with its shape."""
        real = self.constant(self._to_meta(tensor))
        if real is not None:
            return f"{self._fingerprint(real)} {tuple(real.shape)}"
        return self._reading(tensor)[0]

    def result(self, structure: Any, names: Mapping[str, Tensor]) -> tuple[tuple[int, Shape], ...]:
        """The digests of everything that a run leaves behind: its results, and the named tensors that it changed."""
        leaves = [self._to_meta(leaf) for leaf in leaf_tensors(structure)] + list(names.values())
        return tuple([(self._reading(leaf)[1], tuple(leaf.shape)) for leaf in leaves])

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if op is torch.ops.aten.unbind.int:  # FX writes an unpacked tensor as x[0], x[1], ...
            dim = args[1] if len(args) > 1 else 0
            return tuple([self.__torch_dispatch__(SELECT, (), (args[0], dim, i)) for i in range(args[0].shape[dim])])
        if not hasattr(op, "_schema"):
            self.failure = refused(op, caller() or self.site or "forward")
            raise self.failure
        kwargs = dict(kwargs) if kwargs else {}
        if torch.is_inference_mode_enabled() and is_composite(op):  # torch takes it apart before, outside that mode
            with self:
                parts = op.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        kind = kind_of(op)
        tensors = kind.tensors(args, kwargs)
        if not all(map(self._is_ours, tensors)):
            args = tuple([self._to_meta(a) for a in args])
            kwargs = {key: self._to_meta(a) for key, a in kwargs.items()}
            tensors = kind.tensors(args, kwargs)
        if kind.mutable:
            self._refuse_state(args)
        if not kind.random and self._all_constant(tensors) and not is_filled_later(op):
            return self._fold(op, args, kwargs)
        if op is NUMBER and self.called and self.inside is None and not self.real:
            return 1.0 if args[0].is_floating_point() else 1  # a layer of torch.nn asks how often it ran: say once
        if kind.has_device and not self.real:
            kwargs["device"] = META
        reading = self._read(kind, args, kwargs)
        out = self.execute(op, args, kwargs, reading)
        outs = results_of(out)
        shapes = tuple([tuple(o.shape) if isinstance(o, Tensor) else () for o in outs])
        digest = self._digest_call(kind, reading.digests, reading.text)
        inputs, constants, *_ = reading
        self.calls.append(Call(op, inputs, constants, shapes, digest, self.site_of(op), self.module))
        read = self.reading(op, args, kwargs)
        if kind.mutable and args and out is args[0]:  # in place: what any alias holds is another value now
            memory = storage_of(out)
            self._written[memory] = self._written.get(memory, 0) + 1
            self._last_write[memory] = digest
            real = self._real.pop(id(out), None)
            if real is not None:
                self._unknown.setdefault(storage_of(real), len(self._unknown))
            self._new_value(out)
        for i, o in enumerate(outs):
            if isinstance(o, Tensor):
                self.value_of(o)
                self._digests[id(o)] = hash((digest, i)) if i else digest
        self.observe(op, read, outs)
        return out

    def execute(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reading: Reading) -> Any:
        """The result of a call."""
        if self.real:
            if self.recall is None:
                return op(*args, **kwargs)
            return self.recall.result(op, args, kwargs, reading.digests, reading.given, reading.text)
        try:
            return on_meta(op, args, kwargs, reading.given, reading.text)
        except Exception as error:
            if "meta" in str(error).lower():  # a real tensor would not have failed
                self.failure = self.failure or error
            raise

    def _all_constant(self, tensors: Sequence[Tensor]) -> bool:
        """Whether a call depends on nothing but constants."""
        return all(self.constant(tensor) is not None for tensor in tensors) if self._real else not tensors

    def _refuse_state(self, args: tuple[Any, ...]) -> None:
        if self._real and args and isinstance(args[0], Tensor):
            real = self._real.get(id(args[0]))
            self._twins.written(real)
            if real is not None and storage_of(real) in self._attributes:
                self.failure = written(self.site)
                raise self.failure

    def _read(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
        """The tensors among the arguments, with their keys and digests, and the other arguments."""
        inputs: list[Key] = []
        digests: list[int] = []
        given: list[Given] = []
        constants: list[tuple[int | str, Any]] = []
        places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        plain = kind.plain
        for key, value in places:
            if key in plain or value is None:
                constants.append((key, tuple(value) if isinstance(value, list) else value))
                continue
            if isinstance(value, Tensor):
                entries: Sequence[Any] = (value,)
            elif isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
                entries = value
                given.append(len(value))
            else:
                constants.append((key, plain_value(value)))
                continue
            for entry in entries:
                name, digest = ("", 0) if entry is None else self._reading(entry)
                inputs.append(name)
                digests.append(digest)
                given.append(entry)
        if kind.random and (seed := torch.initial_seed()) != self._seed:  # the code has seeded it
            constants.append(("global seed", seed))
        text = str(constants)
        if not self.gradients:
            constants.append(WITHOUT_GRADIENTS)
        return Reading(tuple(inputs), tuple(constants), text, digests, given)

    def _digest_call(self, kind: Kind, inputs: list[int], constants: str) -> int:
        name = kind.name
        if kind.random:  # each draw is another one
            self._random_calls += 1
            inputs = [*inputs, self._random_calls]
        if name in REVERSED:
            name, inputs = REVERSED[name], inputs[::-1]
        return hash((name, tuple(inputs), constants))

    def _fold(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call on constants alone for real; its result is a meta tensor that stands for the real one."""
        real_args, real_kwargs = pytree.tree_map_only(Tensor, self._real_of, (args, kwargs))
        out = computed(op, real_args, real_kwargs)
        self._twins.note(op, real_args, out)
        if op._schema.is_mutable and args and isinstance(args[0], Tensor):
            memory = storage_of(real_args[0])  # of its aliases, too
            self._fingerprints = {k: known for k, known in self._fingerprints.items() if storage_of(known[2]) != memory}
            return args[0] if op._schema.returns else None
        return pytree.tree_map_only(Tensor, self._stand_in, out)

    def _real_of(self, tensor: Tensor) -> Tensor:
        return self._real[id(tensor)]

    def _stand_in(self, real: Tensor) -> Tensor:
        if self.real:  # nothing has to stand for it
            self._real[id(real)] = real
            self.keepalive.append(real)
            return real
        meta = self._meta_of.get(id(real))
        if meta is None:
            meta = self._meta_of[id(real)] = like_on_meta(real)
            self._real[id(meta)] = real
            self.keepalive += [real, meta]
        return meta

    def met(self) -> list[Tensor]:
        """The tensors from outside the run that calls were given: constants, and any that have no name."""
        return [real for real in self._real.values() if not real.is_meta] + [t for t, _ in self.strangers]

    def release(self) -> None:
        """Swap the meta stand-ins of constants for their real tensors in place: user code may have cached them."""
        with no_dispatch_modes():
            for keepalive in self.keepalive:
                real = None if self.real else self._real.get(id(keepalive))
                if real is not None and keepalive.is_meta:
                    with suppress(RuntimeError):  # a view of it is alive
                        swap_tensors(keepalive, real.detach())

    def site_of(self, op: Any) -> str:
        """Where the run is, in words."""
        if self.inside is None or op is None:
            return self.site
        name = op._schema.name.split("::")[1]
        return f"{name} at {self.inside}" if self.inside else name

    def entered(self, module: Any, args: tuple[Any, ...]) -> None:
        """A module is called; for subclasses."""

    def left(self, module: Any, args: tuple[Any, ...], result: Any) -> None:
        """A module returns; for subclasses."""

    def refuse_gradient(self, why: str, call: Any) -> None:
        """The gradients of these tensors may be other ones at other widths; for subclasses."""

    def read_outside(self, how: str, tensor: Tensor) -> None:
        """Python or numpy reads the numbers of a tensor; for subclasses."""

    def reading(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a subclass wants of the arguments of a call, before its results get their numbers."""

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        """A call was recorded; for subclasses. `read` is what `reading` returned, `outs` are the results."""

    def _is_ours(self, tensor: Tensor) -> bool:
        """Whether a tensor is one of the run, which has no other one in its place."""
        return id(tensor) in self._value_of or id(tensor) in self._real if self.real else is_meta(tensor)

    def _to_meta(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if self._is_ours(value) else self._stand_in(value)
        if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            return [self._to_meta(v) for v in value]
        return value
