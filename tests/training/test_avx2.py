"""Training a convolution on a processor without AVX-512: in a process of its own, which a fault of oneDNN would abort."""

from __future__ import annotations

import os
import subprocess
import sys

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1", "MALLOC_CHECK_": "3"}

SCRIPT = """
from types import SimpleNamespace

import torch

from egoinstructor.model.configuration import vision_config
from egoinstructor.model.vision import build_vision_encoder
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.training.retriever_model import VideoCrossViewModel


class Sum(torch.nn.Module):
    config = SimpleNamespace(projection_dim=4)

    def forward(self, input_ids, ego, exo, is_ego, places):
        return SimpleNamespace(loss=ego.square().sum() + exo.square().sum())


torch.manual_seed(0)
values = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1],
          "layer_type": "basic", "image_size": 32}
tower = build_vision_encoder(vision_config(values)).requires_grad_(True)
way = Preprocessing((32, 32), None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), antialias=False)
model = VideoCrossViewModel(TowerFrameEncoder(tower, way, num_frames=2), Sum())


def gradients(model, dtype):
    generator = torch.Generator().manual_seed(0)
    model.to(dtype).zero_grad()
    model(
        torch.zeros(4, 1, dtype=torch.long),
        torch.randint(0, 256, (4, 2, 32, 32, 3), dtype=torch.uint8, generator=generator),
        torch.zeros(4, 2, dtype=torch.long),
        torch.zeros(4, 2, dtype=torch.long),
        torch.tensor([[1.0] * 3, [0.0] * 3]).expand(4, 2, 3).to(dtype),
        torch.tensor([True, True, False, False]),
    ).loss.backward()
    return [p.grad.double().clone() for p in tower.parameters()]


for _ in range(20):
    found = gradients(model, torch.float32)
right = gradients(model, torch.float64)
print(max(((a - b).norm() / b.norm().clamp_min(1e-9)).item() for a, b in zip(found, right, strict=True)))
"""


def test_gradients_of_strided_convolutions_are_right_without_avx512():
    # Without the copy in VideoCrossViewModel.forward this aborts, on processors with AVX-512 too.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | AVX2, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-3
