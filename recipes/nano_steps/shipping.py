"""What comes with the package: the two trained models as one folder, and the demo's clips with their library."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from egoinstructor.assets import NANO
from egoinstructor.captioners.egoinstructor import SHOTS, Captioner
from egoinstructor.checkpoints.loading import load
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.references import find_references
from egoinstructor.library.sources.opening import open_source
from egoinstructor.retriever.cross_view_retriever import SETTINGS, VIEWS, CrossViewRetriever
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.opening import open_retriever
from nano_steps.clips import SECONDS, KitchenClip, of_camera, read_clips
from nano_steps.embedding import files

SOURCE = "simkitchen"
RETRIEVER = "retriever"


def ship_model(captioner: Path, retriever: Path, out: Path) -> None:
    """Write the captioner in bf16 and, inside, the retriever, which looks through the captioner's vision encoder.

    Args:
        captioner: a finished run's model.
        retriever: a finished run's model, over whose backbone the captioner was made.
        out: a new folder.

    Raises:
        CheckpointError: the two don't share a vision tower, or something can't be read or written.
    """
    with whole_folder(out) as folder:
        model, processor = load(captioner, dtype=torch.bfloat16)
        model.config.vision_config._name_or_path = ""  # a folder of the machine that trained it
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        opened = open_retriever(retriever, device="cpu", dtype=torch.bfloat16)
        assert isinstance(opened, CrossViewRetriever)
        inner = folder / RETRIEVER
        inner.mkdir()
        opened.model.save_pretrained(inner)
        opened.texts.tokenizer.save_pretrained(inner)
        settings = {
            "num_frames": opened.num_frames,
            "sampling": opened.sampling,
            "backbones": dict.fromkeys(VIEWS, ".."),
        }
        (inner / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        both, shared = open_model(folder)
        if opened.backbones["ego"] is None or opened.backbones["ego"].spec != both.encoder.spec or not shared:
            raise CheckpointError(
                f"{captioner} and {retriever} have different vision towers; train the captioner anew."
            )


def open_model(folder: Path) -> tuple[Captioner, Retriever | None]:
    """The captioner of a shipped folder and its retriever, which looks through it; None if it can't."""
    captioner = Captioner.from_pretrained(folder, device="cpu")
    retriever = open_retriever(folder / RETRIEVER, device="cpu")
    return captioner, retriever if retriever.look_through(captioner.encoder) else None


def ship_demo(
    model: Path, split: Path, out: Path, *, events: int = 400, per_bucket: int = 4, shown: int = 48, seed: int = 0
) -> None:
    """Write the demo's ego clips, the library that they ask, and the videos of what they find in it.

    The queries are drawn by lot from each bucket: none is picked for its caption. Their own events' how-to clips, which
    show the very same action, are not in the library.

    Args:
        model: of `ship_model`.
        split: the test split's folder.
        out: a new folder.
        events: of the split's first so many events, the queries are some and the library has the how-to clips of the others.
        per_bucket: ego clips of each bucket.
        shown: how-to clips whose videos are there too.
        seed: of the lot.

    Raises:
        CheckpointError: something can't be read or written.
        InputError: a clip that can't be read, or too few events.
    """
    captioner, retriever = open_model(model)
    if retriever is None:
        raise CheckpointError(f"{model} and its retriever have different vision towers; make the folder again.")
    clips = read_clips(split, events)
    queries, others = queries_and_library(clips, per_bucket, seed)
    if not others:
        raise InputError(f"{split} has no how-to clips of other events than the queries'; render more events.")
    with whole_folder(out) as folder:
        library = _library(folder / "library", captioner, retriever, others, split)
        found = find_references(library, files(queries, split), SHOTS, latents_key=captioner.latents_key)
        ranked = [hit.entry.video for place in range(SHOTS) for one in found for hit in one.chosen[place : place + 1]]
        for name in list(dict.fromkeys(ranked))[:shown]:
            _copy(folder / "library" / name, folder / name)
        shutil.rmtree(folder / "library" / "exo")
        for clip in queries:
            _copy(split / f"{clip.name}.mp4", folder / f"{clip.name}.mp4")
        facts = [{"video": f"{c.name}.mp4", "caption": c.narration, "bucket": c.bucket} for c in queries]
        (folder / "clips.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def replace_folders(sources: Sequence[Path], package: Path, keep: str) -> None:
    """Put copies of folders into another one, in the place of those of the same names.

    All copies are written before the first takes its place.

    Args:
        sources: the folders.
        package: where copies go.
        keep: the name of a file that a folder there keeps, if it has it.

    Raises:
        CheckpointError: something can't be written.
    """
    targets = [package / source.name for source in sources]
    beside = [(target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")) for target in targets]
    for source, target, (new, old) in zip(sources, targets, beside, strict=True):
        if old.exists() and not target.exists():  # stopped between the two moves
            old.rename(target)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        with whole_folder(new) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
            if (target / keep).exists():
                shutil.copyfile(target / keep, partial / keep)
    for target, (new, old) in zip(targets, beside, strict=True):
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def queries_and_library(
    clips: Sequence[KitchenClip], per_bucket: int, seed: int
) -> tuple[list[KitchenClip], list[KitchenClip]]:
    """Ego clips drawn from each bucket, and the how-to clips of all other events."""
    ego = of_camera(clips, "ego")
    random = Random(seed)
    queries: list[KitchenClip] = []
    for bucket in dict.fromkeys(clip.bucket for clip in ego):
        some = [clip for clip in ego if clip.bucket == bucket]
        queries += random.sample(some, min(per_bucket, len(some)))
    asked = {clip.event for clip in queries}
    return queries, [clip for clip in of_camera(clips, "exo") if clip.event not in asked]


def _library(
    folder: Path, captioner: Captioner, retriever: Retriever, clips: Sequence[KitchenClip], split: Path
) -> ExoLibrary:
    """A library whose videos lie in its own folder while it is filled, so that it names no folder of this machine."""
    library = ExoLibrary.create(folder, retriever, retriever_name=NANO)
    for clip in clips:
        _copy(split / f"{clip.name}.mp4", folder / f"{clip.name}.mp4")
    table = folder / "exo" / "clips.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "start", "end", "narration"])
        writer.writerows([f"{clip.name}.mp4", 0.0, SECONDS, clip.narration] for clip in clips)
    report = library.ingest(open_source(table, name=SOURCE, root=folder), latents=captioner)
    if len(library) != len(clips):
        raise InputError(f"{len(clips) - len(library)} how-to clips are not in the library: {report}")
    library.optimize()
    return library


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
