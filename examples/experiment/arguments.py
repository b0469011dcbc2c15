"""What an argument on a command line may be: an error that says so before hours of training, not after them."""

import argparse

import torch


def count(text: str) -> int:
    """A number of images or seeds: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def device(name: str) -> str:
    """The name of a device that is there."""
    try:
        kind = torch.device(name).type
    except RuntimeError as error:  # torch's reason is a list of all that it was ever built for
        raise argparse.ArgumentTypeError(f"{name!r} is no device: cpu, cuda, or cuda:1 for the second GPU") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{name}: torch sees no GPU here")
    return name
