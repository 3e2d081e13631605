"""Write a run on one page: python -m src.report runs/NAME [runs/OTHER ...] [--file FILE] [--follow]

Writes report.html into the run's folder, also while it runs; its pictures are by best.pt or else the newest
checkpoint. Several runs: their curves together and what differs, written as compare.html beside the first. The page
needs no network and no other file.

With --follow and one run: what the run's own terminal shows, and its page every few seconds, which a browser loads
again by itself, until the run has ended. It reads the run's folder alone, from any host that sees it. Exit code 0:
finished, 1: failed, 3: stopped by its user.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # `python src/report`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import files, interrupts, leaving, limits
from src.console import one_line_errors
from src.errors import UserError
from src.run.layout import ExitCode


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.report", description=__doc__, formatter_class=raw)
    parser.add_argument("runs", nargs="+", type=files.path, metavar="RUN", help="folder of a run")
    default = "default: report.html in the run's folder, compare.html for several"
    parser.add_argument("--file", type=files.path, help=default)
    parser.add_argument("--follow", action="store_true", help="write the page of one run again until it has ended")
    chosen = parser.parse_args()
    with one_line_errors():
        if chosen.follow:
            raise SystemExit(_follow(chosen.runs, chosen.file))
        interrupts.exit_on_signal()
        with limits.loading("torch"):  # --help does not wait for it
            from src.report.page import report

        print(report(chosen.runs, chosen.file, lambda text: print(text, file=sys.stderr, flush=True)))


def _follow(runs: list[Path], file: Path | None) -> ExitCode:
    if len(runs) > 1:
        raise UserError(f"--follow: {len(runs)} runs; it writes the page of one", fix="name one")
    from src.report.following import follow_page

    return follow_page(runs[0], file)


if __name__ == "__main__":
    leaving.run_and_leave(main)
