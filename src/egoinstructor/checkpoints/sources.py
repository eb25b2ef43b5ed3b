"""Where a checkpoint's files are: a folder, a file, or a repository of the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from egoinstructor.checkpoints.reading import weight_files
from egoinstructor.errors import CheckpointError

_HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError)

BASE_FILES = ["config.json", "*.bin", "*.bin.index.json", "*.safetensors", "*.safetensors.index.json"]
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = ["tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt"]

CONVERTED = Path("weights/4shot")
"""Where a converted folder of the published weights is looked for when no model is named."""
PUBLISHED_BASE = "luodian/OTTER-MPT1B-RPJama-Init"
PUBLISHED_CAPTIONER = "Jazzcharles/EgoInstructor-ModelZoo:egoinstructor_captioner_4shot.pt"
PUBLISHED_TOKENIZER = "mosaicml/mosaic-llama-redpajama-final-candidate"


def find_folder(where: str | Path, patterns: list[str], what: str) -> Path:
    """A folder on disk as it is; a Hub id downloaded, or taken from the local cache where there is no network.

    Args:
        where: a folder, or a Hub id `owner/name`.
        patterns: the files wanted of the Hub repository.
        what: what it is, as the message names it.

    Raises:
        CheckpointError: neither; the message says what to download and where to put it.
    """
    path = Path(where)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{what} {where} is a file; give its folder, or a Hub id such as owner/name.")
    try:
        return Path(snapshot_download(str(where), allow_patterns=patterns))
    except _HUB_ERRORS as error:
        raise _not_to_be_had(what, str(where), ", ".join(patterns)) from error


def find_file(where: str | Path, what: str) -> Path:
    """A file on disk as it is; `owner/name:file` from the Hub; `owner/name` alone if it holds one `.pt`.

    Raises:
        CheckpointError: as `find_folder`.
    """
    path = Path(where)
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(f"{what} {where} is a folder; give the file itself.")
    repository, _, name = str(where).partition(":")
    try:
        if name:
            return Path(hf_hub_download(repository, name))
        folder = Path(snapshot_download(repository, allow_patterns=["*.pt"]))
    except _HUB_ERRORS as error:
        raise _not_to_be_had(what, repository, name or "the .pt file") from error
    files = sorted(folder.glob("*.pt"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(f"{what} {where} holds {len(files)} .pt files ({names}); name one as {where}:FILE.")
    return files[0]


def published_in_cache(tokenizer: str | Path | None = None) -> tuple[Path, Path, Path] | None:
    """The published base, captioner and tokenizer in the Hub's local cache; no network is asked.

    Args:
        tokenizer: in place of the published one, folder or Hub id.

    Returns:
        The three, or None if one of them is not there as a whole.
    """
    repository, _, name = PUBLISHED_CAPTIONER.partition(":")
    captioner = try_to_load_from_cache(repository, name)
    try:
        base = _cached(PUBLISHED_BASE, BASE_FILES)
        weight_files(base)
        if tokenizer is None and (base / TOKENIZER_FILE).is_file():
            tokens = base
        else:
            tokens = _cached(tokenizer or PUBLISHED_TOKENIZER, TOKENIZER_FILES)
    except (*_HUB_ERRORS, CheckpointError):
        return None
    if not isinstance(captioner, str) or not (tokens / TOKENIZER_FILE).is_file():
        return None
    return base, Path(captioner), tokens


def _cached(where: str | Path, patterns: list[str]) -> Path:
    """A folder on disk, or of the Hub's local cache."""
    if Path(where).is_dir():
        return Path(where)
    return Path(snapshot_download(str(where), allow_patterns=patterns, local_files_only=True))


def _not_to_be_had(what: str, where: str, files: str) -> CheckpointError:
    return CheckpointError(
        f"{what} {where} is not on this disk and could not be downloaded. On a machine with a network, download "
        f"{files} of huggingface.co/{where} ('hf download {where}'), copy them here, and give that path instead."
    )
