"""Classes that are added on the device, by means of a few photos. The model does not change.

The file known_classes.npz of the bundle has, of the model's own classes, the mean embeddings of training images, and
embeddings of validation images. Embeddings and means have unit length; likeness is the cosine. The margin of an image
for an added class is its likeness to the mean of the photos, minus its likeness to the nearest mean of another class.
The image is of the added class if the margin is above a threshold. The threshold is calibrated: at most a share of
the validation images, the false-alarm rate, is above it. The probability of the added class is the share of validation
images with a smaller margin.
"""

import json
import math
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from edge_arrays import hashes_in, read_arrays, require_file, unit_rows, write_arrays, write_whole

KIND, KNOWN_KIND = "tcs-edge added classes", "tcs-edge known classes"
CLASSES, KNOWN = "classes.json", "known_classes.npz"
FALSE_ALARM_RATE = 0.05  # of images of the model's own classes
MOST_CLASSES, MOST_PHOTOS, MOST_NAME, MOST_FILE_BYTES = 200, 1000, 100, 64_000_000
ENOUGH_PHOTOS = 5


@dataclass(frozen=True, eq=False)
class Known:
    """The model's own classes: mean embeddings (classes, k) and embeddings (N, k) of validation images, unit rows."""

    means: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Added:
    """One added class: its mean embedding (k,), its threshold of the margin, and its number of photos."""

    name: str
    mean: np.ndarray
    threshold: float
    photos: int


@dataclass(frozen=True)
class Fit:
    """Quality of an added class on the images at hand.

    Attributes:
        found: photos that are of the class if it is made of the others. photos: their number.
        false_alarms: validation images of the model's own classes that are above the threshold. images: their number.
    """

    found: int
    photos: int
    false_alarms: int
    images: int


def write_known(path: Path, means: np.ndarray, images: np.ndarray, model_sha256: "list[str]") -> None:
    """Write the means (classes, k) and the embeddings (N, k) of the model's own classes.

    Raises:
        OSError: the file cannot be written.
    """
    about = {"schema_version": 1, "kind": KNOWN_KIND, "model_sha256": sorted(model_sha256)}
    write_arrays(path, about, {"means": unit_rows(means), "images": unit_rows(images)})


def read_known(path: Path, model_sha256: "list[str]", classes: int, size: int) -> Known:
    """Read known_classes.npz.

    Args:
        classes: number of the model's classes. size: values of an embedding.

    Raises:
        ValueError: damaged, or of another model. OSError: not readable.
    """
    about, arrays = read_arrays(path, KNOWN_KIND, {"means": 2, "images": 2})
    means, images = arrays["means"], arrays["images"]
    if hashes_in(about) != tuple(sorted(model_sha256)):
        raise ValueError(f"{path.name} is of another model. Copy the bundle again")
    if means.shape != (classes, size) or images.shape[1] != size:
        raise ValueError(f"{path.name} has shapes {means.shape} and {images.shape}. Copy the bundle again")
    return Known(unit_rows(means), unit_rows(images))


class AddedClasses:
    """The added classes of a model. It is not changed: `add` and `remove` return another one.

    Attributes:
        known: the model's own classes. labels: their names. model_sha256: hashes of the files of the model.
        added: the added classes, in the order of their names.
    """

    def __init__(self, known: Known, labels: "list[str]", model_sha256: "list[str]", added: "tuple[Added, ...]" = ()):
        """Sort `added` by name."""
        self.known, self.labels, self.model_sha256 = known, labels, model_sha256
        self.added = tuple(sorted(added, key=lambda one: one.name))

    @property
    def names(self) -> "list[str]":
        """Names of the added classes."""
        return [one.name for one in self.added]

    def add(
        self, name: str, photos: np.ndarray, false_alarm_rate: float = FALSE_ALARM_RATE
    ) -> "tuple[AddedClasses, Fit]":
        """Return the classes with one more, made of the embeddings (N, k) of its photos, and how well it fits.

        Args:
            false_alarm_rate: share of images of the model's own classes that the class may take, in 0..1.

        Raises:
            ValueError: a name that is taken or not usable, no photo or too many, or too many classes.
        """
        name = self._checked(name)
        if not 1 <= len(photos) <= MOST_PHOTOS:
            raise ValueError(f"{len(photos)} photos: a class is made of 1 to {MOST_PHOTOS}")
        photos = unit_rows(photos)
        if not np.isfinite(photos).all() or not np.abs(photos).sum(axis=1).all():
            raise ValueError("the embedding of a photo is zero, NaN or infinite. Leave this photo out")
        made = self._made(name, photos, false_alarm_rate)
        grown = AddedClasses(self.known, self.labels, self.model_sha256, (*self.added, made))
        return grown, self._fit(made, photos, false_alarm_rate)

    def remove(self, name: str) -> "AddedClasses":
        """Return the classes without one.

        Raises:
            ValueError: no such added class.
        """
        name = unicodedata.normalize("NFC", name)
        if name not in self.names:
            raise ValueError(f"no added class {name!r}. Added: {', '.join(self.names) or 'none'}")
        left = tuple(one for one in self.added if one.name != name)
        return AddedClasses(self.known, self.labels, self.model_sha256, left)

    def find(self, embedding: np.ndarray) -> "tuple[int, float] | None":
        """Return the added class of an image, by position, and its probability; None for an image of no added class.

        Args:
            embedding: (k,).
        """
        image = unit_rows(embedding[None])
        passed = [
            (float((image @ one.mean)[0]), place, margin)
            for place, one in enumerate(self.added)
            if (margin := float(self._margins(one, image)[0])) > one.threshold
        ]
        if not passed:
            return None
        _, place, margin = max(passed)
        others = self._margins(self.added[place], self.known.images)
        return place, (1 + int((others < margin).sum())) / (2 + len(others))

    def with_added(self, probabilities: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        """Return probabilities (classes,) of the model with the added classes behind them; the sum stays 1."""
        every = np.concatenate([probabilities, np.zeros(len(self.added))])
        if found := self.find(embedding):
            place, probability = found
            every *= 1 - probability
            every[len(self.labels) + place] = probability
        return every

    def _checked(self, name: str) -> str:
        """Return a name in its normal form.

        Raises:
            ValueError: it is taken or not usable, or there are too many classes.
        """
        name = unicodedata.normalize("NFC", name)
        if not name.strip() or name != name.strip() or len(name) > MOST_NAME or not name.isprintable():
            raise ValueError(f"the name {name[:MOST_NAME]!r}: write 1 to {MOST_NAME} printable characters in one line")
        taken = {unicodedata.normalize("NFC", other).casefold(): other for other in (*self.labels, *self.names)}
        if other := taken.get(name.casefold()):
            advice = "Remove it first" if other in self.names else "Choose another name"
            raise ValueError(f"there is a class {other!r} already. {advice}")
        if len(self.added) >= MOST_CLASSES:
            raise ValueError(f"there are {len(self.added)} added classes, the most that are possible")
        return name

    def _made(self, name: str, photos: np.ndarray, rate: float) -> Added:
        mean = unit_rows(photos.mean(axis=0, keepdims=True))[0]
        one = Added(name, mean, 0.0, len(photos))
        return replace(one, threshold=quantile(self._margins(one, self.known.images), rate))

    def _margins(self, one: Added, images: np.ndarray) -> np.ndarray:
        """Return the margins (N,) of unit rows (N, k) for an added class."""
        others = [other.mean for other in self.added if other.name != one.name]
        means = np.vstack([self.known.means, *others])
        margins: np.ndarray = images @ one.mean - (images @ means.T).max(axis=1)
        return margins

    def _fit(self, made: Added, photos: np.ndarray, rate: float) -> Fit:
        found = 0
        for row in range(len(photos) if len(photos) > 1 else 0):
            rest = self._made(made.name, np.delete(photos, row, axis=0), rate)
            found += int(self._margins(rest, photos[row : row + 1])[0] > rest.threshold)
        alarms = int((self._margins(made, self.known.images) > made.threshold).sum())
        return Fit(found, len(photos), alarms, len(self.known.images))


def quantile(margins: np.ndarray, rate: float) -> float:
    """Return a threshold that at most a share `rate` of the next margins exceeds, if they come like these.

    With too few margins to show that, return the largest one; without any, 0.
    """
    if not len(margins):
        return 0.0
    rank = min(len(margins), math.ceil((len(margins) + 1) * (1 - rate)))
    return float(np.sort(margins)[rank - 1])


def write_classes(path: Path, classes: AddedClasses) -> None:
    """Write the added classes as JSON, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    listed = [
        {"name": one.name, "photos": one.photos, "threshold": one.threshold, "mean": one.mean.astype(float).tolist()}
        for one in classes.added
    ]
    document = {
        "schema_version": 1, "kind": KIND, "model_sha256": sorted(classes.model_sha256), "classes": listed
    }  # fmt: skip
    text = json.dumps(document, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")) and None)


def read_classes(path: Path, empty: AddedClasses) -> AddedClasses:
    """Read the added classes of a model.

    Args:
        empty: the model's own classes, without added ones.

    Raises:
        ValueError: damaged, of another model, or with a name that the model has. OSError: not readable.
    """
    require_file(path, MOST_FILE_BYTES)
    try:
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)
        if not isinstance(document, dict) or document.get("kind") != KIND or document.get("schema_version") != 1:
            raise ValueError("not a file of added classes")
        if hashes_in(document) != tuple(sorted(empty.model_sha256)):
            raise ValueError("its classes were added to another model. Remove the file, and add them again")
        classes = empty
        for entry in document["classes"]:
            one = _parsed(entry, empty.known.means.shape[1])
            if classes._checked(one.name) != one.name:
                raise ValueError(f"a damaged name: {one.name!r}")
            classes = AddedClasses(empty.known, empty.labels, empty.model_sha256, (*classes.added, one))
    except RecursionError:
        raise ValueError(f"{path.name} cannot be used: it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:  # the last: a whole number of 400 digits
        raise ValueError(f"{path.name} cannot be used: {error}") from None
    return classes


def _parsed(entry: dict, size: int) -> Added:
    """Return one class of the file.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: damaged.
    """
    name, photos, threshold = entry["name"], entry["photos"], entry["threshold"]
    mean = np.array(entry["mean"], dtype=np.float64)
    plain = isinstance(name, str) and type(photos) is int and type(threshold) in (int, float)
    if not plain or photos < 1 or not -2 <= threshold <= 2:
        raise ValueError("a class has a damaged name, number of photos or threshold")
    near_one = mean.shape == (size,) and (np.abs(mean) < 1.01).all()  # first: a large number has no finite norm
    if not near_one or not abs(np.linalg.norm(mean) - 1) < 1e-3:
        raise ValueError(f"the mean of a class is not {size} finite numbers of length 1")
    return Added(name, unit_rows(mean[None])[0], float(threshold), photos)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")
