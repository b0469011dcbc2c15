"""The settings of benchmarks/worth.py: what all runs of a track have in common."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Track = Literal["images", "text"]
BUDGETS = {"B/16": 1 / 16, "B/8": 1 / 8, "B/4": 0.25, "B/2": 0.5, "B": 1.0, "2B": 2.0}
PROTOCOL = ("B/4", "B/2", "B", "2B")  # the smaller ones show where B has to be
RATES = (0.25, 0.5, 1.0, 2.0)  # parts of the rate that is tried first
SEEDS = 4


@dataclass(frozen=True, slots=True)
class Net:
    """The size of a net.

    Attributes:
        width: Channels of the first stage, or of the residual stream.
        depth: Blocks in each stage, or layers.
    """

    width: int
    depth: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs of a track have in common.

    Attributes:
        track: "images" (a ResNet) or "text" (a GPT of bytes).
        data: The data set.
        width: Of the largest net; the narrow ones have half of it.
        depth: Of the largest net; the shallow ones have 1.
        examples: As many images, or sequences, of the largest net are the budget B.
        batch: Examples of a step; twice as many while a net is narrower than the largest.
        rate: The highest learning rate of a run that is tried first; the others are parts of it.
        amp: Whether nets train in bfloat16 by autocast. Growth and evaluation are in float32.
        tested: Test images, or sequences.
        watched: As many of them are looked at before and after growth.
        warmup: The part of the budget over which the rate rises.
        decay: The part of the budget over which the rate of WSD falls.
        rewarmed: Steps over which new entries are warmed up, where a method asks for it.
        after: The test loss is taken so many steps after each growth.
        stride: Images: of the first convolution.
        channels: Images: of the input.
        length: Text: bytes of a sequence.
        head: Text: width of an attention head.
    """

    track: Track
    data: str
    width: int
    depth: int
    examples: int
    batch: int
    rate: float
    amp: bool
    tested: int
    watched: int
    warmup: float = 0.05
    decay: float = 0.2
    rewarmed: int = 50
    after: int = 50
    stride: int = 2
    channels: int = 1
    length: int = 128
    head: int = 32

    @property
    def big(self) -> Net:
        """The largest net."""
        return Net(self.width, self.depth)

    @property
    def narrow(self) -> Net:
        """Half of the largest net's width."""
        return Net(self.width // 2, self.depth)

    @property
    def shallow(self) -> Net:
        """The largest net's width, depth 1."""
        return Net(self.width, 1)

    @property
    def small(self) -> Net:
        """Half of the width, depth 1."""
        return Net(self.width // 2, 1)

    @property
    def middle(self) -> Net:
        """A size in between: three quarters of the width, or in text, which has more depth, its square root."""
        if self.track == "text":
            return Net(self.width, round(self.depth**0.5))
        return Net(self.width * 3 // 4, self.depth)

    def batch_of(self, net: Net) -> int:
        """Examples of a step: twice as many while the net is narrow."""
        return self.batch * (2 if net.width < self.width else 1)


IMAGES = Settings(
    "images", "fashion-mnist", width=16, depth=3, examples=2_400_000, batch=64, rate=0.1, amp=True, tested=10_000,
    watched=2000,
)  # fmt: skip
TEXT = Settings(
    "text", "standard library", width=128, depth=8, examples=131_072, batch=16, rate=2e-3, amp=True, tested=512,
    watched=128,
)  # fmt: skip
SIZES: dict[str, dict[str, Settings]] = {
    "cpu": {"images": IMAGES, "text": TEXT},
    "real": {
        "images": Settings(
            "images", "cifar", width=64, depth=3, examples=1_500_000, batch=128, rate=0.1, amp=False, tested=10_000,
            watched=10_000, stride=1, channels=3,
        ),
        "text": Settings(
            "text", "folder", width=768, depth=17, examples=2_400_000, batch=64, rate=6e-4, amp=False, tested=2048,
            watched=256, length=1024, head=64,
        ),
    },
    # Nets so small that the whole protocol, with all seeds, takes a day on one processor.
    "small": {
        "images": Settings(
            "images", "fashion-mnist", width=8, depth=2, examples=2_400_000, batch=64, rate=0.1, amp=False,
            tested=10_000, watched=2000,
        ),
        "text": Settings(
            "text", "standard library", width=32, depth=4, examples=131_072, batch=16, rate=8e-3, amp=False, tested=512,
            watched=128, length=64, head=8,
        ),
    },
    "quick": {
        "images": Settings(
            "images", "digits", width=4, depth=2, examples=512, batch=16, rate=0.1, amp=False, tested=64, watched=32,
            rewarmed=2, after=3,
        ),
        "text": Settings(
            "text", "standard library", width=16, depth=2, examples=128, batch=4, rate=2e-3, amp=False, tested=8,
            watched=4, rewarmed=2, after=3, length=16, head=4,
        ),
    },
}  # fmt: skip


def digest(data: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that stand for plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies a run.

    Attributes:
        method: Its name.
        budget: A name in BUDGETS.
        rate: The highest learning rate, as a part of the middle one.
        seed: Of the first weights, of the data's order and of growth.
    """

    method: str
    budget: str
    rate: float
    seed: int

    def identity(self, of: Settings, definition: Mapping[str, Any], data: str) -> dict[str, Any]:
        """All that the result depends on, as plain data: the settings, what the method does, and the data's digest.

        The budget is there as examples of the largest net, so that records stay what they are where B is raised.
        """
        settings, key = asdict(of), asdict(self)
        examples = BUDGETS[key.pop("budget")] * settings.pop("examples")
        whole = {"settings": settings, "definition": definition, "data": data, **key, "examples": round(examples)}
        return dict(json.loads(json.dumps(whole)))
