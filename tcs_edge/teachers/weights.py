"""Where a teacher's weights are, and how they are read: safetensors only, from a file or the model hub."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file

from tcs_edge.errors import DataError, MissingError, UsageError
from tcs_edge.teachers.registry import TeacherSpec

HUB_TIMEOUT_S = 5.0
_PREFIXES = re.compile(r"^(?:module\.|backbone\.|model\.)+")
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file on this disk; `source` says where it came from, without local folders."""

    path: Path
    source: str


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub: repository id, file name, revision (None = the default branch)."""

    repo: str
    filename: str
    revision: str | None

    def cached_path(self) -> Path | None:
        """The file in the local hub cache (HF_HOME is respected), or None."""
        found = huggingface_hub.try_to_load_from_cache(self.repo, self.filename, revision=self.revision)
        return Path(found) if isinstance(found, str) else None


def hub_file(spec: TeacherSpec) -> HubFile | None:
    """The hub file that holds a teacher's released weights; None when no hub has them as safetensors."""
    config = timm.get_pretrained_cfg(spec.timm_name)
    if config is None or not config.hf_hub_id:
        return None
    repo, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    return HubFile(repo, filename, revision or None) if filename.endswith(".safetensors") else None


def locate_weights(name: str, spec: TeacherSpec, weights: Path | None) -> WeightsFile:
    """Find a teacher's weights: the given file, else the hub cache, else a download from the hub.

    Raises:
        UsageError: the given file is a pickle or no file.
        DataError: the given file is no safetensors file.
        MissingError: the file is not there, or the hub cannot be reached; the message says what to bring.
    """
    if weights is not None:
        check_safetensors(weights)
        return WeightsFile(weights, f"file {weights.name}")
    remote = hub_file(spec)
    if remote is None:
        raise MissingError(
            f"no hub holds the weights of teacher {name!r} ({spec.timm_name}) as safetensors. "
            "Convert the released file and pass --teacher-weights PATH."
        )
    path = remote.cached_path() or _download(name, remote)
    check_safetensors(path)
    return WeightsFile(path, f"hub {remote.repo}/{remote.filename}")


def check_safetensors(path: Path) -> None:
    """Refuse everything that is not a safetensors file by name and by its first bytes.

    Raises:
        MissingError: no such file. UsageError: a folder, or a pickle under any name. DataError: other bytes.
    """
    if not path.exists():
        raise MissingError(f"no such weights file: {path}. Pass --teacher-weights PATH.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Pass --teacher-weights the .safetensors file in it.")
    with path.open("rb") as handle:
        head = handle.read(9)
    looks_pickled = head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")
    if looks_pickled or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise UsageError(
            f"{path} is a pickle, which can run code when read. Pass --teacher-weights a safetensors file."
        )
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"{path} does not end in .safetensors. Pass --teacher-weights a safetensors file.")
    if head[8:9] != b"{":
        raise DataError(f"{path} is not a safetensors file: its header is damaged. Copy it again.")


def read_state(path: Path, expected: Collection[str]) -> dict[str, torch.Tensor]:
    """Read a state dict; half precision becomes float32, wrapper prefixes of the keys are stripped.

    A key the model already knows keeps its name; from any other, leading `module.`, `backbone.` and
    `model.` go.

    Raises:
        DataError: the file is cut off or damaged, or two keys become one when their prefixes go.
    """
    try:
        raw = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} cannot be read as safetensors ({error}). Copy it again.") from None
    state = {key if key in expected else _PREFIXES.sub("", key): _upcast(raw[key]) for key in raw}
    if len(state) != len(raw):
        raise DataError(f"{path} holds more than one model: keys collide once their prefixes are stripped.")
    return state


def _upcast(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _download(name: str, remote: HubFile) -> Path:
    advice = (
        f"Bring {remote.filename} of {remote.repo} from a machine with network "
        "and pass --teacher-weights PATH."
    )
    _require_hub(name, advice)
    try:
        with _quiet_hub():
            path = huggingface_hub.hf_hub_download(
                remote.repo, remote.filename, revision=remote.revision, etag_timeout=HUB_TIMEOUT_S
            )
    except GatedRepoError:
        message = f"teacher {name!r}: {remote.repo} asks you to accept its licence and to log in. {advice}"
        raise MissingError(message) from None
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingError(f"teacher {name!r} could not be downloaded ({reason}). {advice}") from None
    return Path(path)


def _require_hub(name: str, advice: str) -> None:
    """One short request first: the hub's own client would retry for half a minute and warn each time."""
    constants = huggingface_hub.constants
    if constants.HF_HUB_OFFLINE:
        raise MissingError(f"teacher {name!r} is not in the hub cache and HF_HUB_OFFLINE is set. {advice}")
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the client's error classes differ between versions of the hub library
        reason = type(error).__name__
        message = f"teacher {name!r} is not in the hub cache and {constants.ENDPOINT} cannot be reached"
        raise MissingError(f"{message} ({reason}). {advice}") from None


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
