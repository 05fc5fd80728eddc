"""Requests to the hub through huggingface_hub, with its errors as one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tcs_edge.errors import MissingError, UsageError, reason_of
from tcs_edge.hub.address import Address
from tcs_edge.utils.installed import require_installed
from tcs_edge.utils.quiet import quiet
from tcs_edge.utils.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN."
HUB_OWN = frozenset({".gitattributes"})  # the hub creates it with a repository


def open_hub() -> HfApi:
    """Return the client of the hub; its token and its endpoint come from the library's own settings.

    Raises:
        MissingError: huggingface_hub is not installed.
    """
    require_installed(["huggingface_hub"])
    import huggingface_hub

    return huggingface_hub.HfApi(
        endpoint=huggingface_hub.constants.ENDPOINT, library_name="tcs-edge", library_version=__version__
    )


def require_token() -> None:
    """Check that a token is set, before any request.

    Raises:
        MissingError: no token.
    """
    from huggingface_hub import get_token

    if not get_token():
        raise MissingError(f"no token for the hub. {LOG_IN} The token needs write access.")


def find_repo(hub: HfApi, address: Address) -> ModelInfo:
    """Return commit, files and sizes of a repository.

    Raises:
        as `explained`.
    """
    with explained(address):
        return hub.model_info(address.repo, revision=address.revision, files_metadata=True)


def sizes_of(info: ModelInfo) -> dict[str, int | None]:
    """Return the bytes of every file by its path, without the hub's own files."""
    return {file.rfilename: file.size for file in info.siblings or () if file.rfilename not in HUB_OWN}


@contextmanager
def explained(address: Address, result: str = "") -> Iterator[None]:
    """Turn the errors of requests in the block into one line each.

    Args:
        result: state after a failure, as a sentence.

    Raises:
        MissingError: no network, no access, or no such repository or revision.
        UsageError: the hub refuses the request as wrong.
    """
    from huggingface_hub import errors

    try:
        with quiet("huggingface_hub"):
            yield
    except errors.GatedRepoError:
        raise MissingError(_text(f"{address} requires an accepted license. Accept it on its page.", result)) from None
    except errors.RepositoryNotFoundError:
        advice = f"Check the name. A private repository needs a token: {LOG_IN[0].lower()}{LOG_IN[1:]}"
        raise MissingError(_text(f"no repository {address} for this user. {advice}", result)) from None
    except errors.RevisionNotFoundError:
        raise MissingError(
            _text(f"{address} has no such revision. Pass a branch, a tag or a commit.", result)
        ) from None
    except errors.OfflineModeIsEnabled:
        raise MissingError(_text("HF_HUB_OFFLINE is set. Unset it.", result)) from None
    except errors.HfHubHTTPError as error:
        raise _refused(address, error, result) from None
    except errors.HFValidationError as error:
        raise UsageError(_text(f"{address} is not a valid name: {reason_of(error)}.", result)) from None
    except Exception as error:  # of the HTTP library, which differs between versions of the hub library
        if not is_of_network(error):
            raise
        problem = f"the hub cannot be reached ({reason_of(error, 100)}). Check the network, then run it again."
        raise MissingError(_text(problem, result)) from None


def is_of_network(error: BaseException) -> bool:
    """Return True for an error of the connection, also for one that the hub library wraps."""
    chain: BaseException | None = error
    for _ in range(10):
        if chain is None:
            return False
        module = type(chain).__module__.partition(".")[0]
        if isinstance(chain, ConnectionError | TimeoutError) or module.startswith(("httpx", "httpcore", "requests")):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _refused(address: Address, error: Any, result: str) -> Exception:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return MissingError(_text(f"the hub refuses access to {address} (HTTP {status}). {LOG_IN}", result))
    if status in (409, 412):
        return MissingError(_text(f"{address} changed at the same time (HTTP {status}). Run it again.", result))
    if status is not None and status < 500:
        reason = getattr(error, "server_message", None) or reason_of(error, 100)
        return UsageError(_text(f"the hub refuses the request for {address} (HTTP {status}): {reason}.", result))
    return MissingError(_text(f"the hub answers with HTTP {status} for {address}. Try again later.", result))


def _text(problem: str, result: str) -> str:
    return f"{problem} {result}".strip()
