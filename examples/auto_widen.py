"""Grow any public model by name: the plan, the student, the comparison, what it costs, and a page with a picture.

    python examples/auto_widen.py resnet50                        # a model of torchvision or timm, every width x 1.5
    python examples/auto_widen.py resnet18 --parameters 2.0       # widths that give twice as many parameters
    python examples/auto_widen.py resnet18 --like resnet34        # into the shape of a larger one
    python examples/auto_widen.py bert --factor 2                 # a model type of transformers, a small one
    python examples/auto_widen.py net.py:Net --input 2,1,8,8      # a class or function of yours, in a file
    python examples/auto_widen.py package.net:make                # or in a module

Weights are random: what is compared is whether the student computes what the model computes, which does not depend on
them. The script ends with an error if it does not. A ResNet-50 takes less than a minute on one core.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow

SMALL = {  # sizes of a model type of transformers that are quick to grow, by the usual names in its config
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def main(argv: list[str] | None = None) -> int:
    """Run the script; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a model of torchvision or timm, a model type of transformers, or FILE.py:NAME")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--factor", type=float, default=1.5, help="for every width (default: 1.5)")
    how.add_argument("--parameters", type=_number, help="2.0 for twice as many, or a number")
    how.add_argument("--like", metavar="NAME", help="the larger model to become")
    parser.add_argument("--input", help="the shape of the example input, as 2,3,224,224")
    parser.add_argument("--output", choices=("graph", "module"), default="graph")
    parser.add_argument("--double", action="store_true", help="compare in float64")
    parser.add_argument("--out", type=Path, default=Path("runs/auto_widen"), help="folder for plan.json and plan.html")
    args = parser.parse_args(argv)

    start = time.perf_counter()
    torch.manual_seed(0)
    try:
        model, inputs = built(args.name)
        if args.input:
            inputs = (torch.randn([int(size) for size in args.input.split(",")]),)
        elif inputs is None:  # what fxgrow guesses from the first layer
            inputs = tuple(map(_random, fxgrow.trace(model).inputs.args))
        if args.double:
            model, inputs = model.double(), _doubled(inputs)
        model.eval()
        plan = planned(model, inputs, args)
        student = fxgrow.apply(plan, model, inputs)
        report = fxgrow.verify(model, student, inputs)
    except (fxgrow.FxgrowError, LookupError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    print(plan)
    print(report)
    print(plan.cost())
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    page = fxgrow.draw((model, plan), args.out / "plan.html", example_inputs=inputs)
    print(f"\n{args.name}: {plan.parameters}; {page} and {args.out / 'plan.json'}; {time.perf_counter() - start:.0f} s")
    return 0 if report.exact else 1


def _random(guessed: Tensor) -> Tensor:
    """Random numbers; zeros where the model takes whole numbers, such as tokens."""
    return torch.randn(guessed.shape) if guessed.is_floating_point() else torch.zeros_like(guessed, device="cpu")


def _number(word: str) -> int | float:
    """A number of parameters, or with a point a factor."""
    return int(word) if word.isdecimal() else float(word)


def planned(model: nn.Module, inputs: Any, args: argparse.Namespace) -> fxgrow.Plan:
    """The plan that was asked for."""
    if args.like:
        return fxgrow.match(model, built(args.like)[0].to(next(model.parameters()).dtype), inputs)
    spec: Any = args.factor if args.parameters is None else fxgrow.Budget(parameters=args.parameters)
    return fxgrow.plan(fxgrow.widths(model, inputs, output=args.output), spec)


def built(name: str) -> tuple[nn.Module, Any]:
    """A model with random weights, and inputs for it: positional ones, or ones by name.

    Raises:
        LookupError: No library that is installed has such a model.
    """
    if ":" in name:
        return _own(name), None
    _use_torchvision()
    for library in (_torchvision, _timm, _transformers):
        found = library(name)
        if found is not None:
            return found
    broken = "".join(f"; {library} cannot be imported: {why}" for library, why in BROKEN.items())
    raise LookupError(f"none of torchvision, timm and transformers, as installed here, has a model {name!r}{broken}")


def _own(name: str) -> nn.Module:
    """What a class or function in a file, or in a module that can be imported, makes."""
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None or not Path(place).exists():
            raise LookupError(f"there is no file {place}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        module = importlib.import_module(place)
    if not hasattr(module, attribute):
        raise LookupError(f"{place} has no {attribute!r}")
    made: nn.Module = getattr(module, attribute)()
    return made


BROKEN: dict[str, str] = {}  # libraries that are installed and cannot be imported, such as one for another torch


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.partition(".")[0]:
            BROKEN[library] = str(error)
    except (ImportError, RuntimeError) as error:
        BROKEN[library] = str(error)
    return None


def _use_torchvision() -> None:
    """Let torchvision be imported where it is for another build of torch, as the README's commands may install it."""
    if importlib.util.find_spec("torchvision") is None:
        return
    shim = Path(__file__).parent.parent / "benchmarks" / "torchvision_shim.py"
    spec = importlib.util.spec_from_file_location("torchvision_shim", shim)
    if spec is not None and spec.loader is not None and shim.exists():
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.import_torchvision()


def _torchvision(name: str) -> tuple[nn.Module, Any] | None:
    models = _imported("torchvision.models")
    if models is None or name not in models.list_models():
        return None
    options = {"weights_backbone": None} if name in models.list_models(models.detection) else {}
    return models.get_model(name, weights=None, **options), _images(224 if "inception" not in name else 299)


def _timm(name: str) -> tuple[nn.Module, Any] | None:
    timm = _imported("timm")
    if timm is None or not timm.is_model(name):
        return None
    model = timm.create_model(name)
    return model, _images(model.default_cfg.get("input_size", (3, 224, 224))[-1])


def _transformers(name: str) -> tuple[nn.Module, Any] | None:
    transformers = _imported("transformers")
    if transformers is None or name not in transformers.CONFIG_MAPPING:
        return None
    config = transformers.CONFIG_MAPPING[name]()
    for option, size in SMALL.items():
        if isinstance(getattr(config, option, None), int):
            setattr(config, option, size)
    model = transformers.AutoModel.from_config(config)
    if hasattr(config, "image_size"):
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        return model, {"pixel_values": torch.randn(2, getattr(config, "num_channels", 3), size, size)}
    return model, {"input_ids": torch.randint(getattr(config, "vocab_size", 100), (2, 16))}


def _images(size: int) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, size, size),)


def _doubled(inputs: Any) -> Any:
    """The inputs with floating-point tensors in float64."""

    def each(values: Any) -> Iterator[Any]:
        yield from (value.double() if value.is_floating_point() else value for value in values)

    make: Callable[[Any], Any] = tuple
    if isinstance(inputs, dict):
        return dict(zip(inputs, each(inputs.values()), strict=True))
    return make(each(inputs))


if __name__ == "__main__":
    sys.exit(main())
