"""Check this host before a job: python -m src.doctor [key=value ...] [--ranks N] [--nodes a,b] [--only CHECK ...]

One line for each check, with the settings of the job that will run: green, yellow or red, a message, and a fix. Exit
code 1 if anything is red.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # `python src/doctor`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import config, console, environment, interrupts, leaving, limits
from src.doctor.findings import Plan
from src.errors import UserError
from src.schema import LONGEST

SECONDS = 30.0  # two ranks start in 4 s; in 20 s if five processes share a core
NAMES = (
    *("versions", "surroundings", "variables", "limits", "gpus", "cores", "memory", "host name", "interface", "port"),
    *("hosts", "all-reduce", "model", "data", "run", "disk", "wandb"),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m src.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="the settings of the job, or config=FILE")
    parser.add_argument("--ranks", type=int, default=0, help="ranks on this host (default: as launch/)")
    parser.add_argument("--nodes", default="", help="hosts of the job (default: those of the Slurm job)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each check")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="CHECK", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"longest time for a check ({SECONDS:.0f})")
    parser.add_argument("--checksums", action="store_true", help="compute the data's anew, also where remembered")
    chosen = parser.parse_intermixed_args()
    with console.one_line_errors():
        settings = config.parse(chosen.settings)
        if not 0 < chosen.seconds < LONGEST:
            raise UserError(f"--seconds={chosen.seconds:g}: must be above 0 and below {LONGEST}")
        if chosen.ranks < 0:
            raise UserError(f"--ranks={chosen.ranks}: must be at least 1")
        ranks = chosen.ranks or environment.ranks_per_node()
        interrupts.exit_on_signal()
        with limits.loading("torch"):  # --help does not wait for it
            from src.doctor import examination, network_checks

        plan = Plan(
            settings, chosen.settings, ranks, network_checks.hosts(chosen.nodes), chosen.seconds, chosen.checksums
        )
        raise SystemExit(1 if examination.report(plan, chosen.only or list(NAMES), chosen.json) else 0)


if __name__ == "__main__":
    leaving.run_and_leave(main)
