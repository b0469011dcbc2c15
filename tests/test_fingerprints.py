"""The fingerprint of a model's code is one for all processes and torch versions that are supported.

A plan holds it, so a change means that every plan file is refused. `python -m tests.test_fingerprints` writes the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fxgrow
from tests.nets import NETS

PATH = Path(__file__).parent / "golden" / "fingerprints.json"
SOME = (
    "res_net", "dense_net", "shuffle_chain", "convnext", "tied_convolutions", "autoencoder", "depthwise2d_multiplier2",
    "vit_multihead_attention", "recurrent_from_astate", "batchnorm_by_hand", "instancenorm3d", "medical_unet",
)  # fmt: skip


def _fingerprints(name: str) -> dict[str, str]:
    net = NETS[name]
    return {
        output: fxgrow.trace(net.make(), net.inputs(), output=output).fingerprint() for output in ("graph", "module")
    }


# Torch makes other calls in these since a version, and a plan for a module holds them: older ones refuse such a plan.
OTHER_CALLS = {"vit_multihead_attention": (2, 13), "instancenorm3d": (2, 11)}
VERSION = tuple(map(int, torch.__version__.split(".")[:2]))


@pytest.mark.parametrize("name", SOME)
def test_the_fingerprint_is_that_of_the_versions_before(name: str) -> None:
    found, golden = _fingerprints(name), json.loads(PATH.read_text())[name]
    if OTHER_CALLS.get(name, VERSION) > VERSION:
        del found["module"], golden["module"]
    assert found == golden


if __name__ == "__main__":
    PATH.write_text(json.dumps({name: _fingerprints(name) for name in SOME}, indent=1) + "\n")
