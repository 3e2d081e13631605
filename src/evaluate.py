"""How good is a run on a data set? python -m src.evaluate runs/NAME [data.name=... data.root=...] [--write]

Prints what training prints, of the run's best checkpoint. Leaves the run as it is, unless --write asks for a file.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from src.console import one_line_errors
from src.data import dataset as data
from src.errors import UserError
from src.evaluation import Metrics, evaluate
from src.files import write_text
from src.run import trained
from src.run.trained import Trained
from src.world.world import World


def measure(run: Trained) -> tuple[str, Metrics]:
    """The name of the data set that the run's settings mean, and how good the run is on it. Raises UserError."""
    dataset = data.load(dataclasses.replace(run.settings.data, fallback="none"), World(), print)
    if (dataset.spec.shape, dataset.spec.dtype) != (run.spec.shape, run.spec.dtype):
        raise UserError(
            f"{dataset.name}: its inputs are {dataset.spec.shape}, the model was trained on {run.spec.shape}"
        )
    if dataset.spec.classes > run.spec.classes:
        raise UserError(f"{dataset.name}: has {dataset.spec.classes} classes, the model {run.spec.classes}")
    return dataset.name, evaluate(run.model, run.module, dataset.test)


def write(run: Trained, name: str, metrics: Metrics) -> Path:
    """Keep the result in the run's folder. Raises UserError."""
    file = run.path / f"evaluation-{name}.json"
    try:
        write_text(file, json.dumps(metrics.as_dict() | {"checkpoint": run.checkpoint.name}) + "\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})", fix="leave --write out") from None
    return file


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.evaluate", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("settings", nargs="*", metavar="data.key=value", help="another data set")
    parser.add_argument("--write", action="store_true", help="keep the result in the run's folder")
    chosen = parser.parse_intermixed_args()
    with one_line_errors():
        if other := [setting for setting in chosen.settings if not setting.startswith("data.")]:
            raise UserError(f"{other[0]}: only data.* may differ from the run's own settings")
        run = trained.load(chosen.run, chosen.settings)
        name, metrics = measure(run)
        print(f"{run.checkpoint} on {name}\ntest  {metrics}")
        if chosen.write:
            print(f"written to {write(run, name, metrics)}")


if __name__ == "__main__":
    main()
