"""What digit is it? python -m src.predict runs/NAME image.png [folder "pattern*" -] [--json]

One line for each picture: digit, probability, runner-up. A picture that cannot be read is named, the others go
on, and the exit code is 1.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from src.console import one_line_errors
from src.predict import picture
from src.run import trained
from src.run.trained import Trained

LARGEST = 200_000_000  # bytes; /dev/zero has more


def pictures(names: list[str]) -> Iterator[tuple[str, bytes | picture.BadPicture]]:
    """Each named picture's bytes; `-` is standard input."""
    for name in names:
        if name == "-":
            yield "-", sys.stdin.buffer.read(LARGEST)
            continue
        try:
            found = picture.files(name)
        except OSError as error:
            yield name, picture.BadPicture(f"{name}: cannot be read ({error.strerror})")
            continue
        if not found:
            yield name, picture.BadPicture(f"{name}: nothing there")
        yield from map(_read, found)


def _read(file: Path) -> tuple[str, bytes | picture.BadPicture]:
    name = os.fsencode(file).decode(errors="backslashreplace")  # a name in another encoding can be printed too
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        return name, picture.BadPicture(f"{name}: cannot be read ({error.strerror})")
    if len(data) > LARGEST:
        return name, picture.BadPicture(f"{name}: is larger than {LARGEST // 10**6} MB; make it smaller")
    return name, data


def guess(run: Trained, name: str, data: bytes) -> dict[str, Any]:
    """The digit, its probability and the runner-up of one picture. Raises BadPicture."""
    prepared = picture.read(name, data)
    with torch.no_grad():
        chances = run.model.probabilities(run.module, prepared.pixels[None])[0]
    first, second = chances.topk(2).indices.tolist()
    return {
        "picture": name,
        "digit": first,
        "probability": round(float(chances[first]), 6),
        "runner_up": second,
        "runner_up_probability": round(float(chances[second]), 6),
        "found": prepared.found,
    }


def line(result: dict[str, Any]) -> str:
    """For people."""
    first = f"{result['digit']} ({100 * result['probability']:.1f} %)"
    second = f"{result['runner_up']} ({100 * result['runner_up_probability']:.1f} %)"
    return f"{result['picture']}: {first}, then {second}  [{result['found']}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.predict", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--json", action="store_true", help="one JSON object a picture")
    chosen = parser.parse_args()
    bad = 0
    with one_line_errors():
        run = trained.load(chosen.run)
        for name, data in pictures(chosen.pictures):
            try:
                if isinstance(data, picture.BadPicture):
                    raise data
                result = guess(run, name, data)
                print(json.dumps(result) if chosen.json else line(result), flush=True)
            except picture.BadPicture as error:
                bad += 1
                if chosen.json:
                    print(json.dumps({"picture": name, "error": str(error)}), flush=True)
                print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
