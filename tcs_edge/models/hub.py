"""Downloads from the model hub, with a short timeout, so that a missing network is reported within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import timm
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError

from tcs_edge.errors import MissingError, reason_of
from tcs_edge.utils.quiet import quiet

HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub: repository id, file name, revision (None = the default branch)."""

    repo: str
    filename: str
    revision: str | None

    def cached_path(self) -> Path | None:
        """Return the path in the local hub cache (HF_HOME is respected), or None."""
        found = huggingface_hub.try_to_load_from_cache(self.repo, self.filename, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    @property
    def url(self) -> str:
        """Address of the file."""
        return huggingface_hub.hf_hub_url(self.repo, self.filename, revision=self.revision)


def timm_hub_file(timm_name: str) -> HubFile | None:
    """Return the hub file with a timm model's weights; None if the hub has no safetensors file."""
    config = timm.get_pretrained_cfg(timm_name)
    if config is None or not config.hf_hub_id:
        return None
    repo, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    return HubFile(repo, filename, revision or None) if filename.endswith(".safetensors") else None


@dataclass(frozen=True)
class WantedWeights:
    """A hub file that a run needs.

    Attributes:
        what: owner of the weights for messages, such as "teacher 'dinov2'".
        flag: option for a local file, such as "--teacher-weights".
    """

    file: HubFile
    what: str
    flag: str

    @property
    def advice(self) -> str:
        """Name the file, its address and the option for it."""
        return f"Download {self.file.filename} of {self.file.repo} ({self.file.url}) and pass {self.flag} PATH."


def fetch(remote: HubFile, what: str, flag: str) -> Path:
    """Return one file from the hub cache, or download it; arguments as the fields of `WantedWeights`.

    Raises:
        MissingError: as `fetch_all`.
    """
    (path,) = fetch_all([WantedWeights(remote, what, flag)])
    return path


def fetch_all(wanted: Sequence[WantedWeights]) -> list[Path]:
    """Return the files from the hub cache, after a download of those that it lacks.

    Raises:
        MissingError: the hub cannot be reached or denies access; the message names all needed files.
    """
    absent = [one for one in wanted if one.file.cached_path() is None]
    if absent and (reason := _unreachable()):
        raise _missing(absent, f"are not in the hub cache, and {reason}")
    refused = [(one, reason) for one in absent if (reason := _refusal(one.file))]
    if refused:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in refused))
        raise _missing([one for one, _ in refused], f"could not be downloaded ({reasons})")
    return [_cached(one.file) for one in wanted]


def _missing(absent: Sequence[WantedWeights], problem: str) -> MissingError:
    names = " and ".join(dict.fromkeys(one.what for one in absent))
    advice = " ".join(dict.fromkeys(one.advice for one in absent))
    cache = f"Or copy the hub cache of a machine that has them to {huggingface_hub.constants.HF_HUB_CACHE}."
    return MissingError(f"the weights of {names} {problem}. {advice} {cache}")


def _unreachable() -> str | None:
    """Make one short request, since the hub's client would retry for half a minute and warn each time.

    Returns:
        The reason why the hub cannot be reached, or None.
    """
    constants = huggingface_hub.constants
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the error classes differ between versions of the hub library
        return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__})"
    return None


def _refusal(remote: HubFile) -> str | None:
    """Download a file; return the reason if the hub refuses it."""
    try:
        with quiet("huggingface_hub"):
            huggingface_hub.hf_hub_download(
                remote.repo, remote.filename, revision=remote.revision, etag_timeout=HUB_TIMEOUT_S
            )
    except GatedRepoError:
        return f"{remote.repo} requires a login and an accepted license"
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        return reason_of(error)
    return None


def _cached(remote: HubFile) -> Path:
    path = remote.cached_path()
    if path is None:
        raise MissingError(f"{remote.filename} of {remote.repo} disappeared from the hub cache. Run the command again.")
    return path
