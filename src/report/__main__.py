"""A run on one page: python -m src.report runs/NAME [runs/OTHER ...] [--file FILE]

Writes report.html into the run's folder, also while it runs. Several runs: their curves together and what differs,
written as compare.html beside the first. The page needs no network and no other file.
"""

import argparse
from pathlib import Path

from src.console import one_line_errors
from src.report.page import report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--file", type=Path, help="default: report.html in the run's folder, compare.html for several")
    chosen = parser.parse_args()
    with one_line_errors():
        print(report(chosen.runs, chosen.file))


if __name__ == "__main__":
    main()
