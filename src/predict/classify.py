"""A file's bytes as the input of a run's model, and the classes that the model gives it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from src import gallery
from src.errors import UserError
from src.predict import picture
from src.predict.picture import BadInput
from src.run import trained
from src.run.trained import Trained

LARGEST = 200_000_000  # bytes; /dev/zero has more


class Input(NamedTuple):
    """inputs (1, *shape), how they were made, and what makes the file doubtful, or ""."""

    inputs: Tensor
    preparation: str
    doubt: str = ""


def load(path: Path, model_file: Path | None = None, averaged: bool = False) -> Trained:
    """The run, whose model can classify files. Raises UserError for any other model."""
    run = trained.load(path, model_file=model_file, averaged=averaged)
    if reason := gallery.why_not_predicted(run.model, run.module, run.spec):
        raise UserError(f"{path}: {run.model.path.name} {reason}", fix=f"try python -m src.evaluate {path}")
    return run


def contents(names: list[str]) -> Iterator[tuple[str, bytes | BadInput]]:
    """Each named file's bytes; `-` is standard input."""
    for name in names:
        if name == "-":
            yield "-", sys.stdin.buffer.read(LARGEST)
            continue
        try:
            files = picture.files(name)
        except OSError as error:
            yield name, BadInput(f"{name}: cannot be read ({error.strerror})")
            continue
        if not files:
            yield name, BadInput(f"{name}: nothing there")
        yield from map(_read, files)


def _read(file: Path) -> tuple[str, bytes | BadInput]:
    name = os.fsencode(file).decode(errors="backslashreplace")  # a name in another encoding can be printed too
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        return name, BadInput(f"{name}: cannot be read ({error.strerror})")
    if len(data) > LARGEST:
        return name, BadInput(f"{name}: is larger than {LARGEST // 10**6} MB; make it smaller")
    return name, data


def classify(run: Trained, name: str, data: bytes) -> dict[str, Any]:
    """The class of a file's bytes, its probability and the runner-up. Raises as `inputs_of` does."""
    return guess(run, name, inputs_of(run, name, data))


def guess(run: Trained, name: str, given: Input) -> dict[str, Any]:
    """The class of an input that was made of the file `name`, its probability and the runner-up."""
    with torch.no_grad():
        chances = run.model.probabilities(run.module, given.inputs)[0]
    most = chances.topk(min(2, len(chances)))
    (first, *second), (chance, *less) = most.indices.tolist(), most.values.tolist()
    result = {"file": name, "class": first} | _named(run, "name", first) | {"probability": round(chance, 6)}
    if second:
        result |= {"runner_up": second[0]} | _named(run, "runner_up_name", second[0])
        result |= {"runner_up_probability": round(less[0], 6)}
    return result | {"preparation": given.preparation} | ({"doubt": given.doubt} if given.doubt else {})


def _named(run: Trained, key: str, label: int) -> dict[str, str]:
    """What the class is called, where its data has names."""
    return {key: run.spec.name(label)} if run.spec.names else {}


def inputs_of(run: Trained, name: str, data: bytes) -> Input:
    """A file's bytes by the model's `prepare`, as MNIST's, or as a folder of pictures.

    Raises BadInput, and UserError for a model whose `prepare` breaks the contract.
    """
    if gallery.has_prepare(run.model):
        return Input(_prepared(run, name, data), "prepare")
    shape = run.spec.shape
    if picture.fits(shape) and run.settings.data.name != "folder":
        prepared = picture.read(name, data, run.settings.data.name not in picture.THINGS)
        return Input(prepared.pixels.view(1, *shape), prepared.description, prepared.doubt)
    resized = picture.resized(name, data, shape)
    return Input(resized[None], f"resized to {shape[-1]} x {shape[-2]}, {'RGB' if shape[0] == 3 else 'grey'}")


def _prepared(run: Trained, name: str, data: bytes) -> Tensor:
    spec = run.spec
    with run.model.user_code():
        try:
            inputs = run.model.module.prepare(data, spec)
        except ValueError as error:  # this file is none that the model reads; the others may be
            raise BadInput(f"{name}: {error}") from None
    expected = (1, *spec.shape)
    if not isinstance(inputs, Tensor) or inputs.shape != expected or inputs.dtype != spec.dtype:
        kind = f"{tuple(inputs.shape)} of {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise run.model.broken("prepare", f"returned {kind}", f"a tensor {expected} of {spec.dtype}")
    return inputs


def line(result: dict[str, Any]) -> str:
    """For people: `a.png: 1 (98.7 %), then 7 (0.9 %)  [dark on light]`; `photo.jpg: cat (98.7 %), ...` by names."""
    text = f"{result['file']}: {result.get('name', result['class'])} ({100 * result['probability']:.1f} %)"
    if "runner_up" in result:
        second = result.get("runner_up_name", result["runner_up"])
        text += f", then {second} ({100 * result['runner_up_probability']:.1f} %)"
    text += f"  [{result['preparation']}]"
    return f"{text}  doubtful: {result['doubt']}" if "doubt" in result else text
