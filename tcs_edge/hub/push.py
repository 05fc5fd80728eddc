"""Publish a validated run on the hub, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcs_edge.bundle.contents import verify_bundle
from tcs_edge.errors import DataError, UsageError
from tcs_edge.hub.address import Address
from tcs_edge.hub.client import explained, find_repo, open_hub, require_token, sizes_of
from tcs_edge.hub.content import BUNDLE, MARKER_BYTES, require_safe_paths
from tcs_edge.runs.folder import MANIFEST, MARKER
from tcs_edge.runs.validated import validated_run
from tcs_edge.utils.files import sha256_file


@dataclass(frozen=True)
class Published:
    """A published run.

    Attributes:
        url: page of the repository.
        commit: commit that has exactly these files.
        manifest_sha256: hash of manifest.json, which has the hashes of all files of the run.
        files: number of files. bytes: their sum.
        bundle: True if a bundle was published too.
    """

    address: str
    url: str
    commit: str
    manifest_sha256: str
    files: int
    bytes: int
    bundle: bool

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a JSON document."""
        return {"schema_version": 1, **asdict(self)}


def push_run(run: Path, address: Address, bundle: Path | None = None, public: bool = False) -> Published:
    """Publish the files of a run as they are; a repository of an earlier push gets exactly the new files.

    Args:
        bundle: folder of `tcs-edge bundle`; None takes RUN-bundle if it exists.
        public: visibility of a new repository. That of an existing one stays.

    Raises:
        ParityFailed: the run failed validation, or its files changed after it.
        DataError: not a run, or the bundle is damaged or of another run.
        UsageError: a revision, or a repository with files of another origin.
        MissingError: no token, no network or no access. Nothing was published then.
    """
    if address.revision:
        raise UsageError(f"push writes to the default branch. Leave out @{address.revision}.")
    sources = _sources(run, bundle)
    require_safe_paths(sources)
    hub = open_hub()
    require_token()
    import huggingface_hub as library

    with explained(address, "Nothing was published."):
        # With a private default, no name of an image is public by accident.
        hub.create_repo(address.repo, private=not public, exist_ok=True)
        earlier = find_repo(hub, address)
        stale = _stale(address, sizes_of(earlier), sources)
        operations: list[Any] = [library.CommitOperationDelete(path) for path in stale]
        operations += [
            library.CommitOperationAdd(path, source if isinstance(source, bytes) else str(source))
            for path, source in sources.items()
        ]
        made = hub.create_commit(
            address.repo, operations, commit_message=f"Publish {run.resolve().name}", parent_commit=earlier.sha
        )
    sizes = [len(one) if isinstance(one, bytes) else one.stat().st_size for one in sources.values()]
    return Published(
        str(address), f"{hub.endpoint}/{address.repo}", str(made.oid), sha256_file(run / MANIFEST), len(sizes),
        sum(sizes), any(path.startswith(f"{BUNDLE}/") for path in sources),
    )  # fmt: skip


def _sources(run: Path, bundle: Path | None) -> dict[str, Path | bytes]:
    """Return the file, or the content, of every path in the repository."""
    folder, manifest = validated_run(run)
    sources: dict[str, Path | bytes] = {record.path: folder.root / record.path for record in manifest.files}
    sources |= {MANIFEST: folder.manifest, MARKER: MARKER_BYTES}
    if bundle is None:
        default = folder.root.with_name(f"{folder.root.resolve().name}-bundle")
        bundle = default if default.is_dir() else None
    elif not bundle.is_dir():
        raise DataError(f"no such bundle: {bundle}. Pass the folder that `tcs-edge bundle` wrote.")
    if bundle is not None:
        names = verify_bundle(bundle, frozenset(record.sha256 for record in manifest.files))
        sources |= {f"{BUNDLE}/{name}": bundle / name for name in names}
    return sources


def _stale(address: Address, found: Mapping[str, object], sources: Mapping[str, object]) -> list[str]:
    """Return the files of an earlier push that the new one lacks."""
    if found and MANIFEST not in found:
        raise UsageError(
            f"{address} has files of another origin: {', '.join(sorted(found)[:3])}. Choose another repository."
        )
    return sorted(set(found) - set(sources))
