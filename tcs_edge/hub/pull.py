"""Download a published run; the folder appears after every hash is verified, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcs_edge.bundle.contents import MOST_SUMS_BYTES, SUMS, listed_hashes, verify_bundle
from tcs_edge.errors import DataError, UsageError
from tcs_edge.hub.address import Address
from tcs_edge.hub.client import explained, find_repo, open_hub, sizes_of
from tcs_edge.hub.content import BUNDLE, MARKER_BYTES, UNRECORDED, require_safe_paths
from tcs_edge.runs.folder import MANIFEST, MARKER
from tcs_edge.runs.manifest import read_manifest, verify_files
from tcs_edge.runs.schema import Manifest
from tcs_edge.utils.files import atomic_folder, make_folder, restore_folder, sha256_file
from tcs_edge.utils.lock import owned_file
from tcs_edge.utils.progress import track
from tcs_edge.utils.reading import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

STAGE = ".download"
NOTHING = "Nothing was written."
DO_NOT_USE = "Do not use this repository, or ask its owner to push it again."
SHOWN = 3


@dataclass(frozen=True)
class Pulled:
    """A downloaded run; the fields are those of `push.Published`."""

    folder: Path
    address: str
    commit: str
    manifest_sha256: str
    files: int
    bytes: int
    bundle: bool

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a JSON document."""
        return {"schema_version": 1, **asdict(self), "folder": str(self.folder)}


def pull_run(address: Address, out: Path) -> Pulled:
    """Download a run into the new folder `out`; nothing of it is executed.

    Every file has the size and the sha256 of the run's manifest, a bundle's of its SHA256SUMS. The hashes protect
    against damage and later changes. They do not identify the author: whoever can write the repository can write
    the manifest.

    Raises:
        DataError: a file differs, is missing, or is not listed; or the run failed validation.
        UsageError: `out` is not empty.
        MissingError: no network, no access, or no such repository or revision.
        InUse: another process writes `out`.
    """
    _require_free(out)
    hub = open_hub()
    info = find_repo(hub, address)
    place, commit = out.resolve(), str(info.sha)
    with owned_file(place):
        restore_folder(place)
        _require_free(place)
        with atomic_folder(place) as draft:
            download = _Download(hub, Address(address.repo, commit), sizes_of(info), draft)
            manifest = download.run()
            names = download.bundle(manifest)
            shutil.rmtree(draft / STAGE, ignore_errors=True)
            (draft / MARKER).write_bytes(MARKER_BYTES)
            _verify(address, draft, manifest)
            paths = [path for path in draft.rglob("*") if path.is_file()]
            total, manifest_sha256 = sum(path.stat().st_size for path in paths), sha256_file(draft / MANIFEST)
    return Pulled(out, str(address), commit, manifest_sha256, len(paths), total, bool(names))


class _Download:
    """Files of one commit, on their way into `draft`."""

    def __init__(self, hub: HfApi, address: Address, sizes: Mapping[str, int | None], draft: Path) -> None:
        self.hub, self.address, self.sizes, self.draft = hub, address, sizes, draft

    def run(self) -> Manifest:
        """Download the manifest, then the files that it lists; return it."""
        if MANIFEST not in self.sizes:
            raise DataError(f"{self.address} has no run: {MANIFEST} is missing. Check the address.")
        require_safe_paths(self.sizes)
        self._fetch(MANIFEST, most_bytes=MAX_DOCUMENT_BYTES)
        manifest = read_manifest(self.draft)
        if manifest.verdict != "pass":
            raise DataError(f"{self.address} failed validation. {DO_NOT_USE}")
        records = {record.path: record for record in manifest.files}
        require_safe_paths(records)
        own = {path for path in self.sizes if not path.startswith(f"{BUNDLE}/")} - UNRECORDED
        self._refuse("has files that its manifest does not list", own - set(records))
        self._refuse("lacks files of its manifest", set(records) - own)
        sizes = (path for path, record in records.items() if self.sizes[path] not in (None, record.bytes))
        self._refuse("has files of another size than in its manifest", sizes)
        for path in track(sorted(records), "downloading", len(records)):
            self._fetch(path, records[path].sha256, records[path].bytes)
        return manifest

    def bundle(self, manifest: Manifest) -> tuple[str, ...]:
        """Download the bundle, if there is one; return the names of its files."""
        found = {path for path in self.sizes if path.startswith(f"{BUNDLE}/")}
        if not found:
            return ()
        sums = f"{BUNDLE}/{SUMS}"
        self._refuse("has no list of its bundle", set() if sums in found else {sums})
        self._fetch(sums, most_bytes=MOST_SUMS_BYTES)
        hashes = {f"{BUNDLE}/{name}": sha256 for name, sha256 in listed_hashes(self.draft / BUNDLE).items()}
        self._refuse(f"has files that {sums} does not list", found - set(hashes) - {sums})
        self._refuse(f"lacks files of {sums}", set(hashes) - found)
        for path in track(sorted(hashes), "downloading the bundle", len(hashes)):
            self._fetch(path, hashes[path])
        return verify_bundle(self.draft / BUNDLE, frozenset(record.sha256 for record in manifest.files))

    def _fetch(self, path: str, sha256: str | None = None, most_bytes: int | None = None) -> None:
        """Download one file, and move it to its place once it is verified.

        Raises:
            DataError: it is too large, or its hash is not `sha256`.
        """
        if most_bytes is not None and (self.sizes[path] or 0) > most_bytes:
            self._refuse("has a file that is too large", [path])
        stage = self.draft / STAGE
        with explained(self.address, NOTHING):
            came = Path(self.hub.hf_hub_download(
                self.address.repo, path, revision=self.address.revision, local_dir=stage
            ))  # fmt: skip
        if came.is_symlink() or not came.resolve().is_relative_to(stage.resolve()):
            self._refuse("has a link", [path])
        if sha256 is not None and sha256_file(came) != sha256:
            self._refuse("has files that differ from their recorded hash", [path])
        target = self.draft / path
        make_folder(target.parent)
        came.replace(target)

    def _refuse(self, problem: str, paths: Iterable[str]) -> None:
        if names := sorted(paths):
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            listed = ", ".join(names[:SHOWN])
            raise DataError(f"{self.address} {problem}: {listed}{more}. {DO_NOT_USE} {NOTHING}")


def _verify(address: Address, draft: Path, manifest: Manifest) -> None:
    if problems := verify_files(draft, manifest):
        listed = ", ".join(f"{problem.path} ({problem.problem})" for problem in problems[:SHOWN])
        raise DataError(f"{address} differs from its manifest: {listed}. {DO_NOT_USE} {NOTHING}")


def _require_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out} is a file. Choose another folder.")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty. Choose another folder.")
