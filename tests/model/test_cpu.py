"""oneDNN's linear layers: used for fp32 inference alone, the same numbers, and a bound on what is kept of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import BaseTorchFunctionMode

from egoinstructor.model.cpu import KERNELS, bound_kernels, fast_linears


@pytest.fixture
def calls(monkeypatch):
    """How often the mode handed a product to oneDNN."""
    counted = []
    from egoinstructor.model import cpu

    fits = cpu._fits
    monkeypatch.setattr(cpu, "_fits", lambda *args: counted.append(args) or fits(*args))
    return counted


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 5, 24), (2, 3, 5, 24), (0, 24)])
def test_the_same_numbers(shape, bias, calls):
    layer = torch.nn.Linear(24, 40, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = layer(x)
        with fast_linears(torch.device("cpu")):
            torch.testing.assert_close(layer(x), expected)
    assert len(calls) == 1


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
def test_training_and_half_precision_are_left_alone(calls):
    layer = torch.nn.Linear(8, 8)
    with fast_linears(torch.device("cpu")):
        layer(torch.ones(2, 8)).sum().backward()
        assert calls == []
        with torch.no_grad():
            layer.bfloat16()(torch.ones(2, 8, dtype=torch.bfloat16))
    assert layer.weight.grad is not None


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
def test_autocast_goes_its_own_way():
    layer = torch.nn.Linear(8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), fast_linears(torch.device("cpu")):
        assert layer(torch.ones(2, 8)).dtype == torch.bfloat16


def test_compiled_code_is_left_alone():
    layer, graphs = torch.nn.Linear(8, 8), []

    @torch.compile(backend=lambda graph, _: graphs.append(graph) or graph)
    def compiled(x):
        with torch.no_grad(), fast_linears(x.device):
            return layer(x)

    compiled(torch.ones(2, 8))
    assert graphs
    assert "mkldnn" not in "".join(graph.code for graph in graphs)


def test_other_devices_get_nothing():
    with fast_linears(torch.device("meta")):
        assert F.linear(torch.ones(1, 2, device="meta"), torch.ones(3, 2, device="meta")).shape == (1, 3)


def test_an_interruption_stays_one_and_other_modes_stay_on(monkeypatch):
    """Ctrl-C at the worst moment: PyTorch has taken the mode off for a call, and has not put it back."""
    outer, x, put_back = BaseTorchFunctionMode(), torch.ones(3, 2), torch.overrides._push_mode

    def interrupted(mode):
        if mode is not outer:
            raise KeyboardInterrupt
        put_back(mode)

    def infer():
        with fast_linears(x.device):
            monkeypatch.setattr(torch.overrides, "_push_mode", interrupted)
            len(x)

    with outer:
        with pytest.raises(KeyboardInterrupt):
            infer()
        assert torch.overrides._get_current_function_mode() is outer


MANY_SIZES = """
import sys
import torch
import torch.nn.functional as F
from egoinstructor.model.cpu import KERNELS, bound_kernels, fast_linears

bound_kernels()
weight = torch.ones(16, 8)
with torch.inference_mode(), fast_linears(weight.device):
    for rows in [*range(2, KERNELS + 3), KERNELS + 2, 2]:
        print("rows", rows, flush=True)
        F.linear(torch.ones(rows, 8), weight)
"""


@pytest.mark.slow  # a process of its own: oneDNN reads its settings once
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
def test_few_compiled_products_are_kept():
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    told = subprocess.run(
        [sys.executable, "-c", MANY_SIZES],
        env=environment | {"ONEDNN_VERBOSE": "profile_create", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    compiled = [part.count("create:cache_miss") for part in told.split("rows ")[1:]]
    assert len(compiled) == KERNELS + 3
    assert all(compiled[: KERNELS + 1]), "each number of rows is another product"
    assert not compiled[-2], "the last one was kept"
    assert compiled[-1], "the first one was not"


def test_what_the_environment_says_of_it_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "9")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    bound_kernels()
    assert (os.environ["LRU_CACHE_CAPACITY"], os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) == ("7", str(KERNELS))
