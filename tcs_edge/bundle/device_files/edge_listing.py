"""Find images: in a folder, and new ones in a watched folder."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_images import FORMATS, pillow_heif

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
SUFFIXES += ((".avif",) if "AVIF" in FORMATS else ()) + ((".heic", ".heif", ".hif") if pillow_heif else ())
# Entries of network storage, file systems, macOS, Windows, cameras, photo programs and version control.
CLUTTER = re.compile(
    r"\..*|@eadir|@tmp|@sharebin|@sharesnap|@recycle|@recently-snapshot|@snapshot|#recycle|#snapshot|trashbox|~snapshot|"
    r"nflc_data|lost\+found|network trash folder|temporary items|thevolumesettingsfolder|__macosx|icon\r|thumbs\.db|"
    r"thumbs\.db:encryptable|ehthumbs\.db|ehthumbs_vista\.db|desktop\.ini|\$recycle\.bin|recycler|recycled|"
    r"system volume information|cvs|_svn|_darcs|__pycache__|node_modules|found\.\d{3}|"
    r".*(\.thm|\.lrv|\.lrdata|\.photoslibrary|\.aplibrary|@synoeastream|@synoresource|:zone\.identifier)",
    re.IGNORECASE | re.DOTALL,
)


def image_files(folder: Path, left_out: Counter, above: tuple = ()) -> Iterator[Path]:
    """Yield the images below a folder; count the other entries in `left_out`."""
    here = (folder.stat().st_dev, folder.stat().st_ino)
    if here in above:  # a link back
        return
    for entry in folder.iterdir():
        if CLUTTER.fullmatch(entry.name):
            left_out["hidden entries and entries of other programs"] += 1
        elif entry.is_dir():
            yield from image_files(entry, left_out, (*above, here))
        elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or not entry.exists()):  # or a broken link
            yield entry
        else:
            left_out["files that are not images or not read here"] += 1


def listed(path: str, say: Callable[[str], None]) -> list[Path]:
    """Return the images in a folder, sorted, or the path itself. Report what is left out of a folder with `say`.

    Raises:
        ValueError: no images in the folder. OSError: the folder cannot be read.
    """
    if not Path(path).is_dir():
        return [Path(path)]
    left_out = Counter()
    found = sorted(image_files(Path(path), left_out))
    for kind, count in left_out.items():
        say(f"{path}: ignored {kind}: {count}")
    if not found:
        raise ValueError("no images in this folder")
    return found


class Watch:
    """Images that are new or changed in a folder since the first look.

    A file is reported when it is equal in two looks, so that no half-written file is opened.

    Raises:
        OSError: the folder is not there, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = self._look()
        self.growing: dict[Path, tuple] = {}

    def _look(self) -> dict[Path, tuple]:
        """Return size and time of change of every image.

        Raises:
            OSError: the folder is not there, or cannot be read.
        """
        found = {}
        for path in image_files(self.folder, Counter()):
            try:
                facts = path.stat()
            except OSError:  # removed since it was listed
                continue
            found[path] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        return found

    def new(self) -> list[Path]:
        """Return the images that have come since the last call and are complete, sorted.

        Raises:
            OSError: the folder is not there, or cannot be read.
        """
        found = self._look()
        changed = {path: facts for path, facts in found.items() if self.known.get(path) != facts and facts[0] > 0}
        complete = sorted(path for path, facts in changed.items() if self.growing.get(path) == facts)
        self.growing = changed
        self.known = {path: facts for path, facts in self.known.items() if path in found}
        self.known.update((path, changed[path]) for path in complete)
        return complete


def watched(watch: Watch, seconds: float, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield new images of a folder for ever, with a look every `seconds`. Report a missing folder once with `say`."""
    gone = False
    while True:
        time.sleep(seconds)
        try:
            found = watch.new()
        except OSError as error:
            if not gone:
                say(f"error: cannot read {watch.folder}: {error.strerror or error}. Waiting for it.")
            gone = True
            continue
        gone = False
        yield from found
