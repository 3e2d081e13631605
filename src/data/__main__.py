"""Convert a data set before a job, so that no rank waits for it: python -m src.data import SOURCE [--to FOLDER]
       [--skip-broken] [data.image_size=64]

SOURCE is a folder of pictures (train/CLASS/picture.png and test/CLASS/...), a .csv of paths and labels, a .npz of
arrays, or an image data set in Parquet or Arrow files (`make setup-import`). The last line is the command that trains
on what was made.
"""

import argparse
import signal
import sys
from pathlib import Path

if not __package__:  # `python src/data`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import config, files, leaving, limits
from src.console import one_line_errors
from src.errors import UserError


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.data", description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=("import",))
    parser.add_argument("source", type=files.path, metavar="SOURCE", help="a folder, a .csv, a .npz or a .parquet file")
    parser.add_argument("settings", nargs="*", metavar="data.key=value", help="data.image_size, data.root")
    parser.add_argument("--to", type=files.path, metavar="FOLDER", help="where it is written, the job's data.root")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken pictures out, and list them")
    chosen = parser.parse_intermixed_args()
    with one_line_errors():
        if other := [setting for setting in chosen.settings if not setting.startswith("data.")]:
            raise UserError(f"{other[0]}: only data.* may be given")
        named = any(setting.startswith("data.root=") for setting in chosen.settings)
        settings = config.parse(chosen.settings).data
        to = chosen.to or (Path(settings.root) if named else None)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once; the next call goes on
        with limits.loading("torch"):
            from src.data import importing  # torch comes with it: --help does not wait for it
        print(importing.run(chosen.source, to, settings, chosen.skip_broken))


if __name__ == "__main__":
    leaving.run_and_leave(main)
