"""Write weights for other programs: python -m src.export runs/NAME --to safetensors|onnx [--average] [--file FILE]
       [--model FILE]

Exports the run's best.pt or else its newest checkpoint. The file is read back by the format's library and compared
with torch on the whole test set; its metadata are the metrics and the hash of these weights.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # `python src/export`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import files, interrupts, leaving, limits
from src.console import one_line_errors

FORMATS = ("safetensors", "onnx")


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.export", description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=files.path, metavar="RUN", help="folder of the run")
    parser.add_argument("--to", choices=FORMATS, required=True)
    parser.add_argument("--average", action="store_true", help="the averaged weights of optim.average")
    parser.add_argument("--file", type=files.path, help="default: model.* in the run's folder")
    parser.add_argument("--model", type=files.path, metavar="FILE", help="where the model's code is, if it has moved")
    chosen = parser.parse_args()
    with one_line_errors():
        interrupts.exit_on_signal()
        with limits.loading("torch"):  # --help does not wait for it
            from src.export.weights import export

        print(export(chosen.run, chosen.to, chosen.file, chosen.model, chosen.average))


if __name__ == "__main__":
    leaving.run_and_leave(main)
