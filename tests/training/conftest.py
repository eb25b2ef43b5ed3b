"""Tiny videos whose frames carry their own number, so that a lost, doubled or moved frame shows in the pixels."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 10


def paint(number: int, size: tuple[int, int] = (80, 48)) -> np.ndarray:
    """A picture that shows a number in binary, as black and white columns."""
    width, height = size
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.array(bits, np.uint8)[np.arange(width) * BITS // width] * 255
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read(picture: np.ndarray) -> int:
    """The number that a picture shows."""
    row = picture.mean(axis=(0, 2))
    columns = (np.arange(BITS) + 0.5) * len(row) / BITS
    return sum(int(row[int(column)] > 127) << bit for bit, column in enumerate(columns))


def write_video(
    path: Path,
    times: int | Iterable[Fraction] = 90,
    *,
    size: tuple[int, int] = (80, 48),
    fps: int = 30,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    start: Fraction = Fraction(0),
    pixels: Callable[[int], np.ndarray] | None = None,
    sound: bool = False,
) -> Path:
    """Write frames 0, 1, … at given times, or so many at `fps`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [Fraction(n, fps) for n in range(times)] if isinstance(times, int) else list(times)
    clock = Fraction(1, 90000)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {"preset": "ultrafast", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps) if codec == "mpeg4" else clock
        stream.codec_context.thread_count = 1
        if sound:
            audio = container.add_stream("aac", rate=8000, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 4), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
        for number, time in enumerate(times):
            picture = paint(number, size) if pixels is None else pixels(number)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
            frame.time_base = stream.codec_context.time_base
            frame.pts = round((time + start) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_frames(path: Path) -> list[tuple[float, np.ndarray]]:
    """Every frame of a video: seconds and upright pixels."""
    with av.open(path) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def read_numbers(path: Path) -> list[int]:
    """The number that each frame of a video shows."""
    return [read(picture) for _, picture in read_frames(path)]


def turn(path: Path, degrees: int) -> None:
    """Make an MP4 say that it is to be shown turned clockwise, as phones do: the matrix in its track header."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def write_noise(path: Path, frames: int) -> Path:
    """A video that doesn't compress."""
    noise = np.random.default_rng(0)
    return write_video(
        path, frames, size=(320, 240), pixels=lambda _: noise.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_to_collect() -> Iterator[None]:
    """Each run of transformers' trainer ends with a garbage collection: 0.4 s, unless what is imported is left out."""
    gc.freeze()
    yield
    gc.unfreeze()


class Videos:
    """The helpers of this file, for test modules."""

    write = staticmethod(write_video)
    frames = staticmethod(read_frames)
    numbers = staticmethod(read_numbers)
    read = staticmethod(read)
    noise = staticmethod(write_noise)
    turn = staticmethod(turn)


@pytest.fixture(scope="session")
def videos() -> type[Videos]:
    return Videos


# ---------------------------------------------------------------------- two views, as numbers

VERBS = ("cuts", "stirs", "opens", "washes", "peels", "pours", "lifts", "turns")
NOUNS = ("leek", "soup", "jar", "pan", "onion", "milk", "lid", "dough")


class Views:
    """A data set for retrievers. An action is a verb and a noun; what it looks like from either side is a random vector.

    The two vectors of an action have nothing in common, so that training alone tells that they belong together.
    """

    verbs, nouns = VERBS, NOUNS

    @staticmethod
    def tokenizer(folder: Path) -> Path:
        """Write a tokenizer that knows the words."""
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        words = ["<pad>", "<unk>", "<bos>", "<eos>", *VERBS, *NOUNS, "now", "the"]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            "<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", eos_token="<eos>"
        ).save_pretrained(folder)
        return folder

    @staticmethod
    def write(folder: Path, split: str, clips: int, *, actions: int, noise: float = 0.3, seed: int = 0) -> None:
        """Write as many clips of 4 s of each view, with their pairs: all exo clips of the same action."""
        import torch

        from egoinstructor.data.pairs import PairRecord, write_pairs

        draw = torch.Generator().manual_seed(seed)
        for view, width in (("exo", 16), ("ego", 12)):
            looks = torch.randn(actions, width, generator=torch.Generator().manual_seed(width))
            own = noise * torch.randn(clips, 1, width, generator=draw)
            done = [i % actions for i in range(clips)]
            tables = looks[done][:, None] + own + 0.1 * torch.randn(clips, 4, width, generator=draw)
            (folder / view).mkdir(parents=True, exist_ok=True)
            torch.save(tables.flatten(0, 1), folder / view / f"{split}.pth.tar")
            records = []
            for i, action in enumerate(done):
                verb, noun = divmod(action, len(NOUNS))
                text = f"{'#C C' if view == 'ego' else 'now'} {VERBS[verb]} the {NOUNS[noun]}"
                paired = tuple(range(action, clips, actions)) if view == "ego" else ()
                records.append(PairRecord(split, 4 * i, 4 * i + 4, text, nouns=(noun,), verbs=(verb,), paired=paired))
            write_pairs(folder / f"{split}_{view}.json", records)

    @staticmethod
    def options(folder: Path, output: Path, **changes: object) -> list[str]:
        """Command-line options of a small run, with changes."""
        values = {
            "tokenizer": folder / "tokenizer", "train_ego": folder / "train_ego.json",
            "train_exo": folder / "train_exo.json", "features_ego": folder / "ego", "features_exo": folder / "exo",
            "hidden_size": 16, "num_layers": 1, "num_heads": 2, "projection_dim": 16, "text_context": 8,
            "text_hidden_size": 16, "text_num_layers": 1, "text_num_heads": 2, "output_dir": output, "use_cpu": True,
            "learning_rate": 1e-3, "logging_steps": 1, "max_steps": 4, "save_strategy": "no", "disable_tqdm": True,
            "per_device_train_batch_size": 4, "seed": 1, **changes,
        }  # fmt: skip
        return [x for name, value in values.items() if value is not None for x in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def views() -> type[Views]:
    return Views
