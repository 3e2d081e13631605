"""The picture that a model saw, as a file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src import files
from src.errors import UserError
from src.predict import picture


class Show:
    """Where pictures go: `path` is a .png file for one, or a folder, in which x.jpg becomes x.png, and the next x x-2.

    Raises UserError where several files are given and one is asked for, and where one would be overwritten.
    """

    def __init__(self, path: Path, names: list[str], shape: tuple[int, ...]) -> None:
        if not (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))):
            raise UserError(f"--show {path}: inputs of shape {shape} are no picture", fix="leave it out")
        sources = [file for name in names for file in _files(name)]
        self._path, self._sources = path, {file.resolve() for file in sources}
        self._is_folder, self._taken = path.is_dir() or path.suffix.lower() != ".png", set[Path]()
        if not self._is_folder and len(sources) > 1:
            raise UserError(f"--show {path}: {len(sources)} files, and one picture", fix="name a folder")

    def write(self, name: str, inputs: Tensor) -> None:
        """Write the input (1, *shape) that was made of the file `name`. Raises UserError."""
        file = self._file(name)
        if file.resolve() in self._sources:
            raise UserError(f"--show {self._path}: {file} is one of the files that are read", fix="name another folder")
        try:
            if self._is_folder:
                files.make_folder(self._path)
            with files.whole(file) as temporary:
                _image(inputs[0]).save(temporary, "PNG")
        except OSError as error:
            raise UserError(f"--show {self._path}: cannot be written ({files.reason(error)})") from None

    def _file(self, name: str) -> Path:
        if not self._is_folder:
            return self._path
        stem = "stdin" if name == "-" else Path(name).stem
        numbers = ("" if at == 1 else f"-{at}" for at in range(1, len(self._taken) + 2))
        file = next(file for number in numbers if (file := self._path / f"{stem}{number}.png") not in self._taken)
        self._taken.add(file)
        return file


def _files(name: str) -> list[Path]:
    try:
        return [Path(name)] if name == "-" else picture.files(name)
    except OSError:  # it is named where it is read
        return [Path(name)]


def _image(pixels: Tensor) -> Image.Image:
    """(height, width) or (1 or 3, height, width) as an image; numbers other than bytes from their least to their
    largest.
    """
    if pixels.dtype != torch.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels.double() - low) * (255 / max(high - low, 1e-12))).nan_to_num().byte()
    array = pixels.numpy()
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return Image.fromarray(array)
