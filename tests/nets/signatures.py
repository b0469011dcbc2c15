"""How a model takes its inputs and holds its parts: stars, lists, options, names, lists of modules."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.idioms import Body
from tests.nets.registry import IMAGE, ROWS, net


def image(generator: torch.Generator) -> Tensor:
    return torch.randn(IMAGE, generator=generator)


@net(IMAGE, IMAGE, IMAGE)
class StarInputs(Body):
    """Any number of images."""

    def forward(self, *xs: Tensor) -> list[Tensor]:
        return [self.c(self.features(x)) * (i + 1) for i, x in enumerate(xs)]


@net(IMAGE, IMAGE)
class StarAfterFirst(Body):
    def forward(self, x: Tensor, *others: Tensor, scale: float = 2.0) -> Tensor:
        for other in others:
            x = x + other * scale
        return self.c(self.features(x))


@net(kwargs={"x": IMAGE, "left": IMAGE, "right": IMAGE})
class StarKeywords(Body):
    """Any images by name."""

    def forward(self, x: Tensor, **others: Tensor) -> dict[str, Tensor]:
        found = {name: self.c(self.features(x + other)) for name, other in others.items()}
        return {**found, "x": self.c(self.features(x))}


@net(kwargs={"x": IMAGE, "mask": (2, 1, 6, 8)})
class KeywordOnly(Body):
    """One of the two is given by keyword and used, one is not."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        x = self.features(x)
        if mask is not None:
            x = x * mask.sigmoid()
        return self.c(x if bias is None else x + bias)


@net(IMAGE, None, True)
class PlainInputs(Body):
    """None and a flag, given by position."""

    def forward(self, x: Tensor, mask: Tensor | None, twice: bool, mode: str = "sum") -> Any:
        x = self.features(x)
        if mask is not None:
            x = x * mask
        y = self.c(x) + (self.c(x * 2) if twice else 0)
        return y if mode == "sum" else {"y": y}


@net(lambda g: [image(g), image(g)])
class ListInput(Body):
    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        first, second = xs
        return self.c(self.features(torch.cat(list(xs)))) + self.c(self.features(first - second)).repeat(
            len(xs), 1, 1, 1
        )


@net(lambda g: {"image": image(g), "weight": torch.rand(2, generator=g), "name": "left"})
class DictInput(Body):
    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        x = self.features(batch["image"])
        if "weight" in batch:
            x = x * batch["weight"].view(-1, 1, 1, 1)
        if batch.get("name") == "left" and batch.get("nothing") is None:
            x = x.flip(3)
        return self.c(x)


@net(lambda g: {"views": [image(g), (image(g), image(g))], "extra": None})
class NestedInput(Body):
    def forward(self, batch: Mapping[str, Any]) -> list[Tensor]:
        one, (two, three) = batch["views"]
        assert batch["extra"] is None
        return [self.c(self.features(x)) for x in (one, two, three)]


# -- how its parts are held ----------------------------------------------------------------------------


@net(IMAGE)
class ListsOfModules(Body):
    """Modules that are registered are also kept in plain lists and dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.order = [self.a, self.b]
        self.table = {"last": self.c}
        self.acts = (torch.tanh, F.relu)

    def forward(self, x: Tensor) -> Tensor:
        for layer, act in zip(self.order, self.acts, strict=True):
            x = act(layer(x))
        return self.table["last"](x)


@net(IMAGE)
class UnregisteredActivations(Body):
    """Modules without parameters that nobody registered: in a list, as an attribute of the class."""

    act = nn.SiLU()

    def __init__(self) -> None:
        super().__init__()
        self.acts = [nn.GELU(), nn.Hardtanh()]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.act(self.acts[1](self.b(self.acts[0](self.a(x))))))


@net(IMAGE)
class TwoNames(nn.Module):
    """A module under two names, and a child of it under a third."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.again, self.conv = self.body, self.body[0]
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(self.conv(self.again(x)))


class Coder(nn.Module):
    """Called through `encode` and `decode`, never through forward."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(6, 8, 2, stride=2), nn.ConvTranspose2d(8, 6, 2, stride=2)

    def encode(self, x: Tensor) -> Tensor:
        return torch.tanh(self.down(x))

    def decode(self, x: Tensor) -> Tensor:
        return self.up(x)


@net(IMAGE)
class OtherMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.coder, self.head = nn.Conv2d(3, 6, 1), Coder(), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.coder.decode(self.coder.encode(self.stem(x))))


def replaced_forward(self: Body, x: Tensor) -> Tensor:
    return self.c(self.features(x * 2))


@net(IMAGE)
def forward_on_the_instance() -> nn.Module:
    """`model.forward = ...`, as patches of libraries do."""
    model = Body()
    model.forward = functools.partial(replaced_forward, model)  # type: ignore[method-assign]
    return model


@net(IMAGE)
class PartialModules(nn.Module):
    """Layers made by partials and by a class that inherits one; sizes in a closure."""

    def __init__(self) -> None:
        super().__init__()
        conv = functools.partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
        self.body = nn.Sequential(conv(3, 6), norm(6), nn.ReLU(), conv(6, 5), norm(5))
        self.pool = functools.partial(F.avg_pool2d, kernel_size=2)
        self.head = nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(x)))


@net(ROWS)
class NestedModules(nn.Module):
    """A dictionary of lists of modules, walked by keys and by slices."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {
                "first": nn.ModuleList([nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 5)]),
                "second": nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 4)]),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        for name, layers in self.parts.items():
            for layer in layers[:-1]:
                x = torch.tanh(layer(x))
            x = layers[-1](x) if name == "second" else layers[-1](x).relu()
        return x


@net(ROWS)
class KeywordCalls(nn.Module):
    """Submodules that are called by keywords, among them one with a default that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), Scaled(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(input=self.b(scale=0.5, x=torch.tanh(self.a(input=x))))


class Scaled(nn.Module):
    """A linear layer with a scale."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.inner, self.root = nn.Linear(inside, out), math.sqrt(2.0)

    def forward(self, x: Tensor, *, scale: float | None = None) -> Tensor:
        return torch.tanh(self.inner(x)) * (self.root if scale is None else scale)
