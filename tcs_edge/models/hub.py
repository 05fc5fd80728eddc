"""Downloads from the model hub, with a short timeout, so that a missing network is reported within seconds."""

from __future__ import annotations

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


def timm_hub_file(timm_name: str) -> HubFile | None:
    """Return the hub file with a timm model's weights; None if the hub has no safetensors file."""
    config = timm.get_pretrained_cfg(timm_name)
    if config is None or not config.hf_hub_id:
        return None
    repo, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    return HubFile(repo, filename, revision or None) if filename.endswith(".safetensors") else None


def fetch(remote: HubFile, what: str, flag: str) -> Path:
    """Return the file from the hub cache, or download it.

    Args:
        what: owner of the weights for messages, such as "teacher 'dinov2'".
        flag: option for a local file, such as "--teacher-weights".

    Raises:
        MissingError: the hub cannot be reached or denies access; the message names the needed file.
    """
    cached = remote.cached_path()
    if cached:
        return cached
    advice = f"Download {remote.filename} of {remote.repo} on a machine with network, and pass {flag} PATH."
    _require_hub(what, advice)
    try:
        with quiet("huggingface_hub"):
            path = huggingface_hub.hf_hub_download(
                remote.repo, remote.filename, revision=remote.revision, etag_timeout=HUB_TIMEOUT_S
            )
    except GatedRepoError:
        message = f"the weights of {what} require a login and an accepted license on {remote.repo}. {advice}"
        raise MissingError(message) from None
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise MissingError(f"the weights of {what} could not be downloaded ({reason_of(error)}). {advice}") from None
    return Path(path)


def _require_hub(what: str, advice: str) -> None:
    """Make one short request first, since the hub's client would retry for half a minute and warn each time.

    Raises:
        MissingError: the hub cannot be reached, or HF_HUB_OFFLINE is set.
    """
    constants = huggingface_hub.constants
    if constants.HF_HUB_OFFLINE:
        raise MissingError(f"the weights of {what} are not in the hub cache, and HF_HUB_OFFLINE is set. {advice}")
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the error classes differ between versions of the hub library
        reason = type(error).__name__
        message = f"the weights of {what} are not in the hub cache, and {constants.ENDPOINT} cannot be reached"
        raise MissingError(f"{message} ({reason}). {advice}") from None
