"""Measure a run on a data set: python -m src.evaluate runs/NAME [data.name=... data.root=...] [--average]
       [--write] [--model FILE]

Prints what training prints, of the run's best.pt or else its newest checkpoint. Leaves the run as it is, unless
--write asks for evaluation-DATA.json in its folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # `python src/evaluate.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import files, interrupts, leaving, limits
from src.console import one_line_errors
from src.errors import UserError

if TYPE_CHECKING:  # torch comes with them: --help does not wait for it
    from src.evaluation.metrics import Metrics
    from src.run.trained import Trained


def write(run: Trained, name: str, metrics: Metrics) -> Path:
    """Keep the result in the run's folder. Raises UserError."""
    file = run.path / f"evaluation-{name}.json"
    try:
        origin = {"checkpoint": run.checkpoint.name, "averaged": run.averaged}
        files.write_text(file, json.dumps(metrics.as_dict() | origin) + "\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})", fix="leave --write out") from None
    return file


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.evaluate", description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=files.path, metavar="RUN", help="folder of the run")
    parser.add_argument("settings", nargs="*", metavar="data.key=value", help="another data set")
    parser.add_argument("--average", action="store_true", help="the averaged weights of optim.average")
    parser.add_argument("--write", action="store_true", help="keep the result in the run's folder")
    parser.add_argument("--model", type=files.path, metavar="FILE", help="where the model's code is, if it has moved")
    chosen = parser.parse_intermixed_args()
    with one_line_errors():
        if other := [setting for setting in chosen.settings if not setting.startswith("data.")]:
            raise UserError(f"{other[0]}: only data.* may differ from the run's settings")
        evaluate(chosen.run, chosen.settings, chosen.write, chosen.model, chosen.average)


def evaluate(path: Path, overrides: list[str], keep: bool, model_file: Path | None, averaged: bool) -> None:
    """Measure the run and print it; `keep` writes the result into the run's folder. Raises UserError."""
    interrupts.exit_on_signal()
    with limits.loading("torch"):
        from src.evaluation import measure
        from src.run import trained

    run = trained.load(path, overrides, model_file=model_file, averaged=averaged)
    dataset = trained.test_of(run)
    metrics = measure.evaluate(run.model, run.module, dataset.test)
    print(f"{run.origin} on {dataset.name}\ntest  {metrics}")
    if keep:
        print(f"written to {write(run, dataset.name, metrics)}")


if __name__ == "__main__":
    leaving.run_and_leave(main)
