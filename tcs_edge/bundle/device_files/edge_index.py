"""Index of images by their embeddings: find like images by cosine similarity.

An index names the model that made it, by hash. Embeddings of another model mean something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edge_arrays import hashes_in, read_arrays, unit_rows, write_arrays

KIND = "tcs-edge index"


@dataclass(frozen=True, eq=False)
class Index:
    """Images with their embeddings.

    Attributes:
        names: of the images.
        embeddings: float32 (N, k), rows of unit length.
        model_sha256: hashes of the files of the model, sorted.
    """

    names: "tuple[str, ...]"
    embeddings: np.ndarray
    model_sha256: "tuple[str, ...]"

    def nearest(self, embedding: np.ndarray, top: int) -> "list[tuple[str, float]]":
        """Return the `top` images nearest to an embedding (k,), with their cosine in -1..1, the nearest first."""
        cosines = self.embeddings @ unit_rows(embedding[None])[0]
        rows = np.argsort(-cosines, kind="stable")[:top]
        return [(self.names[row], float(np.clip(cosines[row], -1.0, 1.0))) for row in rows]


def write_index(path: Path, names: "Sequence[str]", embeddings: np.ndarray, model_sha256: "Sequence[str]") -> None:
    """Write an index of N images, whole or not at all.

    Args:
        embeddings: float32 (N, k), of any length.
        model_sha256: hashes of the files of the model.

    Raises:
        OSError: the file cannot be written.
    """
    about = {"schema_version": 1, "kind": KIND, "model_sha256": sorted(model_sha256), "names": list(names)}
    write_arrays(path, about, {"embeddings": unit_rows(embeddings)})


def read_index(path: Path) -> Index:
    """Read an index.

    Raises:
        ValueError: damaged, or not an index. OSError: not readable.
    """
    about, arrays = read_arrays(path, KIND, {"embeddings": 2})
    names, embeddings = about.get("names"), arrays["embeddings"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path.name} cannot be read: its names are not a list of texts")
    if not len(names) == len(embeddings) > 0 or embeddings.shape[1] < 1:
        raise ValueError(f"{path.name} cannot be read: {len(names)} names for embeddings {embeddings.shape}")
    try:
        return Index(tuple(names), unit_rows(embeddings), hashes_in(about))
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None


def require_model(index: Index, model_sha256: "Sequence[str]", size: int, name: str) -> None:
    """Check that the model with these hashes and `size` values made the index called `name`.

    Raises:
        ValueError: another model made it.
    """
    if index.model_sha256 != tuple(sorted(model_sha256)) or index.embeddings.shape[1] != size:
        raise ValueError(f"{name} is an index of another model. Make it again with this one")
