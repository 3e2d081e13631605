"""The errors that end a job or a command with one line instead of a traceback.

    UserError      a mistake that the user can mend; exit code 2
    JobFailed      the job cannot go on; exit code 1
      NonFinite      the loss or a gradient is infinite or not a number
      PeerLost       another rank died, or did not come in time
      TryAgain       what is in the way passes by itself; exit code 75

OutputLost ends a command whose output cannot be written; a training drops what it cannot print. Unreachable (no source
has a file of the data set) and Damaged (a checkpoint) are caught where there is another source or an earlier
checkpoint. Whatever else is raised is a fault of this program or of the model's file, and keeps its traceback.
"""


class UserError(ValueError):
    """A mistake that the user can mend, found before anything is lost.

    `message` names the key and its value, `fix` is what to do; `str()` is both in one line.
    """

    exit_code = 2

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message, fix)
        self.message, self.fix = message, fix

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message


class JobFailed(RuntimeError):
    """The job cannot go on: one line, no traceback, and the last checkpoint is safe."""

    exit_code = 1


class PeerLost(JobFailed):
    """Another rank died, or did not come within the timeout; the message names it."""


class TryAgain(JobFailed):
    """The same command may go on later: the disk is full, another host still holds the run."""

    exit_code = 75  # layout.ExitCode.TRY_AGAIN, os.EX_TEMPFAIL


class NonFinite(JobFailed):
    """The loss or a gradient became infinite or not a number; the weights are still those before the step."""


class Damaged(Exception):
    """A checkpoint's bytes are not those that were written; the message names the file."""


class OutputLost(OSError):
    """A command's standard output cannot be written: its reader has left, its terminal is gone, the disk is full."""


class Unreachable(Exception):
    """No source gave the file; holds what each one answered. What fails on this side is an OSError instead."""


class ModelFailed(JobFailed):
    """The model's file raised something; `traceback` is its own part of the traceback."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.message, self.traceback = message, traceback

    def __str__(self) -> str:
        return self.message
