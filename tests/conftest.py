"""Fixtures that every test may use."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from torch import Tensor

    from egoinstructor.model import EgoInstructorForConditionalGeneration, EgoInstructorProcessor
    from egoinstructor.retriever.interface import Retriever

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests have an hour, which only a hang reaches."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread a process, however pytest was started: the same sums in the same order, and no spinning at barriers."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and a real tokenizer, which are not ours to ship."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real clips and tokenizer, which are not part of the repository: no folder {folder}")
    return folder


@dataclass(frozen=True)
class Golden:
    """The original at toy size: its checkpoints in the published layout, and what it computed from them."""

    folder: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def captioner(self) -> Path:
        return self.folder / "captioner.pt"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    def load(self, **options: Any) -> tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor]:
        """A fresh model through the real converter."""
        from egoinstructor.checkpoints.convert import load_original

        return load_original(self.base, self.captioner, tokenizer=self.tokenizer, **options)


def _golden(name: str) -> Golden:
    from safetensors.torch import load_file

    folder = Path(__file__).parent / "golden" / name
    facts = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    return Golden(folder, load_file(folder / "golden.safetensors"), facts)


@pytest.fixture(scope="session", params=["a", "b"])
def golden(request: pytest.FixtureRequest) -> Golden:
    """Both goldens: a has cross-attention in every layer and 8 frames, b in every second and 4."""
    return _golden(request.param)


@pytest.fixture(scope="session")
def golden_a() -> Golden:
    """One golden, where the other would show nothing new."""
    return _golden("a")


@pytest.fixture(scope="session")
def toy(golden_a: Golden) -> tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor]:
    """A toy model that writes sensible captions. Tests must not change it."""
    return golden_a.load()


@pytest.fixture(scope="session")
def short_videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four short videos that look different: an ego clip and three references, 3 s at 10 frames a second."""
    import av
    import numpy as np

    folder = tmp_path_factory.mktemp("videos")
    paths = {}
    for seed, name in enumerate(["ego", "exo1", "exo2", "exo3"]):
        picture = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        paths[name] = folder / f"{name}.mp4"
        with av.open(paths[name], "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(30):
                image = np.roll(picture, i, axis=1).repeat(4, 0).repeat(4, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    return paths


@pytest.fixture(scope="session")
def model_folder(golden_a: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model, converted."""
    from egoinstructor.checkpoints.convert import convert

    folder = tmp_path_factory.mktemp("converted") / "toy"
    convert(golden_a.base, golden_a.captioner, folder, tokenizer=golden_a.tokenizer)
    return folder


RESNET = {
    "model_type": "resnet", "embedding_size": 4, "hidden_sizes": [6, 10], "depths": [1, 2], "layer_type": "basic",
}  # fmt: skip


@pytest.fixture(scope="session")
def resnet_captioner(
    toy: tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The toy captioner with random weights and a small ResNet, whose statistics matter, for its frames."""
    import torch

    from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration

    original, processor = toy
    torch.manual_seed(5)
    model = EgoInstructorForConditionalGeneration(
        EgoInstructorConfig(**{**original.config.to_dict(), "vision_config": RESNET})
    )
    for name, statistic in model.vision_encoder.named_buffers():
        if name.endswith("running_mean"):
            statistic.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            statistic.uniform_(0.1, 2)
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.5)
    folder = tmp_path_factory.mktemp("models") / "resnet-captioner"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def toy_retriever() -> Retriever:
    """Embeds a clip by its mean colours on a coarse grid, and a text by its words: the same everywhere, without weights."""
    return make_toy_retriever()


def make_toy_retriever(dimension: int = 32, revision: str = "1") -> Retriever:
    """As the fixture, for a process of its own or another identity."""
    import zlib

    import torch

    from egoinstructor.retriever.interface import Retriever, RetrieverIdentity
    from egoinstructor.video.decode import load_video

    def unit(rows: list[Tensor]) -> Tensor:
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1) if rows else torch.zeros(0, dimension)

    class Toy(Retriever):
        identity = RetrieverIdentity("toy", revision, dimension, "mean colours", 4, "segment_center")

        def encode_video(self, clips, view="exo"):
            project = torch.randn(48, dimension, generator=torch.Generator().manual_seed(0))
            rows = []
            for clip in clips:
                frames = load_video(clip.video, start=clip.start, end=clip.end, num_frames=4)
                pixels = torch.from_numpy(frames.pixels).float().permute(3, 0, 1, 2).mean(1)  # (3, H, W)
                rows.append(torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten().sub(128) @ project)
            return unit(rows)

        def encode_text(self, texts):
            rows = []
            for text in texts:
                seeds = [zlib.crc32(word.encode()) for word in text.lower().split()]
                rows.append(sum(torch.randn(dimension, generator=torch.Generator().manual_seed(s)) for s in seeds))
            return unit(rows)

    return Toy()
