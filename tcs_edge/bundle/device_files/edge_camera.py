"""Frames of a camera: picamera2 where it is present, else OpenCV, which also reads video files and streams."""

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 10.0
INSTALL = "Run: python3 -I install.py --camera"


class NoCamera(Exception):
    """The camera cannot be opened, or has stopped."""


class PiCamera:
    """A camera of a Raspberry Pi, read through picamera2.

    Raises:
        ImportError, ValueError: picamera2 is not installed, or was built for another numpy.
        NoCamera: no such camera.
    """

    is_file = False

    def __init__(self, number: int, size: "tuple[int, int] | None") -> None:
        from picamera2 import Picamera2

        if number >= len(Picamera2.global_camera_info()):
            raise NoCamera(f"picamera2 has no camera {number}")
        try:
            self._camera = Picamera2(number)
            # picamera2 names the channels from the last byte to the first: BGR888 is R, G, B in memory.
            main = {"format": "BGR888", "size": size or (640, 480)}
            self._camera.configure(self._camera.create_video_configuration(main=main))
            self._camera.start()
        except Exception as error:  # libcamera raises RuntimeError, IndexError and others
            raise NoCamera(f"picamera2 cannot start camera {number}: {error}") from error

    def frame(self) -> "Image.Image | None":
        """Return the next frame as RGB; None if the camera has stopped."""
        try:
            return Image.fromarray(np.ascontiguousarray(self._camera.capture_array("main")))
        except Exception:  # a camera that was unplugged raises any exception
            return None

    def close(self) -> None:
        """Free the camera."""
        self._camera.close()


class OpenCvCamera:
    """A camera, video file or stream, read through OpenCV.

    Raises:
        ImportError: OpenCV is not installed. NoCamera: it cannot be opened.
    """

    def __init__(self, source: "int | str", size: "tuple[int, int] | None") -> None:
        import cv2

        self._cv2 = cv2
        if hasattr(cv2, "setLogLevel"):
            cv2.setLogLevel(2)  # errors alone: a camera that is missing is reported here
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise NoCamera(f"OpenCV cannot open {source!r}")
        self.is_file = isinstance(source, str) and self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # frames that wait in a queue are old
        if size:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])

    def frame(self) -> "Image.Image | None":
        """Return the next frame as RGB; None at the end of a file, or if the camera has stopped."""
        good, pixels = self._capture.read()
        if not good or pixels is None:
            return None
        return Image.fromarray(self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB))

    def close(self) -> None:
        """Free the camera."""
        self._capture.release()


def open_camera(source: str, backend: str, size: "tuple[int, int] | None") -> "PiCamera | OpenCvCamera":
    """Open a camera.

    Args:
        source: number of the camera, or for OpenCV a device, a video file or the address of a stream.
        backend: "auto", "picamera2" or "opencv".
        size: width and height to ask for, in pixels.

    Raises:
        NoCamera: with the reason of every backend that was tried.
    """
    number = int(source) if source.isdecimal() else None
    tried = []
    if backend != "opencv" and number is not None:
        try:
            return PiCamera(number, size)
        except (ImportError, ValueError) as error:
            tried.append(f"picamera2 cannot be imported: {error}")
        except NoCamera as error:
            tried.append(str(error))
    if backend != "picamera2":
        try:
            return OpenCvCamera(source if number is None else number, size)
        except ImportError as error:
            tried.append(f"OpenCV cannot be imported: {error}. {INSTALL}")
        except NoCamera as error:
            tried.append(str(error))
    raise NoCamera("; ".join(tried) or "picamera2 reads cameras by number only")


def frames(
    opened: Callable[[], "PiCamera | OpenCvCamera"], retry_seconds: float, say: Callable[[str], None]
) -> Iterator[tuple[Image.Image, float]]:
    """Yield RGB frames with the milliseconds of capture; a camera that stops is opened again.

    Args:
        opened: opens the camera.
        retry_seconds: longest time without a frame.

    Raises:
        NoCamera: the camera cannot be opened at the start, or gave no frame for `retry_seconds`.
    """
    camera, last = opened(), time.monotonic()
    pause = FIRST_WAIT_SECONDS
    try:
        while True:
            started = time.perf_counter()
            image = camera.frame() if camera else None
            if image is not None:
                if pause > FIRST_WAIT_SECONDS:
                    say("the camera is back")
                last, pause = time.monotonic(), FIRST_WAIT_SECONDS
                yield image, 1e3 * (time.perf_counter() - started)
                continue
            if camera and camera.is_file:
                return
            if pause == FIRST_WAIT_SECONDS and retry_seconds:
                say(f"error: the camera has stopped. Opening it again for {retry_seconds:g} s.")
            if time.monotonic() - last >= retry_seconds:
                raise NoCamera(f"no frame for {retry_seconds:g} s")
            if camera:
                camera.close()
            time.sleep(min(pause, max(0.0, retry_seconds - (time.monotonic() - last))))
            pause = min(2 * pause, LONGEST_WAIT_SECONDS)
            try:
                camera = opened()
            except NoCamera:
                camera = None
    finally:
        if camera:
            camera.close()


class Smoothing:
    """Mean of the probabilities of the last frames."""

    def __init__(self, frames: int) -> None:
        self._last: deque = deque(maxlen=frames)

    def mean(self, probabilities: np.ndarray) -> np.ndarray:
        """Add the probabilities (classes,) of a frame; return the mean of the last frames."""
        self._last.append(probabilities)
        return np.mean(self._last, axis=0)


class Clock:
    """Rate of frames, and the mean time of each part, over the frames since the last report."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._count, self._sums = 0, np.zeros(3)

    @property
    def seconds(self) -> float:
        """Seconds since the last report."""
        return time.perf_counter() - self._since

    @property
    def fps(self) -> float:
        """Frames per second since the last report."""
        return self._count / max(self.seconds, 1e-9)

    def add(self, *parts_ms: float) -> None:
        """Count a frame with its milliseconds of capture, preprocessing and model."""
        self._count += 1
        self._sums += parts_ms

    def report(self) -> str:
        """Return one line of the mean times, and begin again."""
        capture, preprocessing, model = self._sums / max(self._count, 1)
        line = (
            f"{self.fps:.1f} frames/s over {self._count} frames; mean ms: capture {capture:.1f}, "
            f"preprocessing {preprocessing:.1f}, model {model:.1f}"
        )
        self._begin()
        return line
