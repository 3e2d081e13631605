"""Classify pictures: python -m src.predict runs/NAME image.png [folder "pattern*" -] [--json] [--average]
       [--show PATH] [--model FILE]

Prints a line for each: the class, its probability and the runner-up, by the run's best.pt or else its newest
checkpoint. `-` is standard input. What cannot be read is named, the others go on, and the exit code is 1.
A model whose file has a `prepare` is given the files as they are, pictures or not. What makes a picture doubtful
(several digits, faint or cut off) stands at the end of its line, and as `doubt` in JSON.
"""

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # `python src/predict`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import files, interrupts, leaving, limits
from src.console import one_line_errors


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.predict", description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=files.path, metavar="RUN", help="folder of the run")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file, a folder, a pattern, or - for standard input")
    parser.add_argument("--average", action="store_true", help="the averaged weights of optim.average")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    shown = "write the picture that the model saw: a .png file, or a folder for several"
    parser.add_argument("--show", type=files.path, metavar="PATH", help=shown)
    parser.add_argument("--model", type=files.path, metavar="FILE", help="where the model's code is, if it has moved")
    chosen = parser.parse_args()
    with one_line_errors():
        bad = predict(chosen.run, chosen.files, chosen.json, chosen.model, chosen.average, chosen.show)
        raise SystemExit(1 if bad else 0)


def predict(
    path: Path, names: list[str], as_json: bool, model_file: Path | None, averaged: bool, shown: Path | None
) -> int:
    """Print a line for each file; returns how many could not be classified. Raises UserError."""
    interrupts.exit_on_signal()
    with limits.loading("torch"):  # --help does not wait for it
        from src.predict import classify
        from src.predict.picture import BadInput
        from src.predict.show import Show

    run = classify.load(path, model_file, averaged)
    show = Show(shown, names, run.spec.shape) if shown else None
    if not as_json:
        print(f"weights of {run.origin}", file=sys.stderr, flush=True)
    bad = 0
    for name, data in classify.contents(names):
        try:
            if isinstance(data, BadInput):
                raise data
            given = classify.inputs_of(run, name, data)
            if show:
                show.write(name, given.inputs)
            result = classify.guess(run, name, given)
            print(json.dumps(result) if as_json else classify.line(result), flush=True)
        except BadInput as error:
            bad += 1
            if as_json:
                print(json.dumps({"file": name, "error": str(error)}), flush=True)
            print(f"error: {error}", file=sys.stderr, flush=True)
    return bad


if __name__ == "__main__":
    leaving.run_and_leave(main)
