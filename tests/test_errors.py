"""Errors keep their parts, also through pickle, by which ranks send them to each other."""

import pickle

import pytest

from src.errors import JobFailed, ModelFailed, NonFinite, PeerLost, TryAgain, UserError
from src.run.layout import ExitCode


def test_a_user_error_is_its_message_and_its_fix() -> None:
    error = UserError("train.epochs=0: must be at least 1", fix="give 1; or more")
    assert str(error) == "train.epochs=0: must be at least 1; give 1; or more"
    assert (error.message, error.fix) == ("train.epochs=0: must be at least 1", "give 1; or more")
    assert str(UserError("a; b")) == UserError("a; b").message == "a; b"


@pytest.mark.parametrize(
    "error",
    [UserError("a", "b"), JobFailed("a"), NonFinite("a"), PeerLost("a"), TryAgain("a"), ModelFailed("a", "Traceback")],
)
def test_errors_survive_pickle(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_lost_rank_and_a_bad_step_fail_the_job() -> None:
    assert issubclass(PeerLost, JobFailed)
    assert issubclass(NonFinite, JobFailed)
    assert issubclass(ModelFailed, JobFailed)


def test_the_exit_code_of_an_error_is_a_known_one() -> None:
    assert [kind.exit_code for kind in (UserError, JobFailed, TryAgain, PeerLost)] == [
        ExitCode.MISTAKE,
        ExitCode.FAILED,
        ExitCode.TRY_AGAIN,
        ExitCode.FAILED,
    ]
