"""Mode, key, project and id of a run's tracking, from settings, environment and W&B's files."""

import os
import tempfile
from pathlib import Path

import pytest

from src.addresses import without_secrets
from src.schema import Track
from src.tracking import account

KEY = "5ec4e7" * 7


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the user's W&B key, netrc, variables and settings."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def netrc(home: Path, host: str) -> None:
    (home / ".netrc").write_text(f"machine {host} login user password {KEY}\n")
    (home / ".netrc").chmod(0o600)


def settings_file(folder: Path, *lines: str) -> None:
    """A settings file as wandb's commands leave it."""
    folder.mkdir(parents=True)
    (folder / "settings").write_text("\n".join(["[default]", *lines]) + "\n")


def test_auto_is_online_where_there_is_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert account.mode(Track()) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert account.mode(Track()) == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token")
    assert account.mode(Track()) == "online"
    monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE")
    netrc(tmp_path, "api.wandb.ai")
    assert account.mode(Track()) == "online"
    monkeypatch.setenv("NETRC", str(tmp_path / "elsewhere"))
    assert account.mode(Track()) == "offline"


@pytest.mark.parametrize(
    ("value", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("online", "online")]
)
def test_wandb_mode_beats_auto_and_no_other_setting(value: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", value)
    assert account.mode(Track()) == mode
    assert {account.mode(Track(wandb=wanted)) for wanted in ("online", "offline")} == {"online", "offline"}


def test_wandb_offline_and_login_are_honoured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`wandb offline` here, `wandb login --host` in the home directory: their settings files are read."""
    settings_file(tmp_path / ".config" / "wandb", "base_url = https://wandb.example.org")
    netrc(tmp_path, "wandb.example.org")
    assert account.mode(Track()) == "online"
    settings_file(tmp_path / "wandb", "mode = offline")
    assert account.mode(Track()) == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert account.mode(Track()) == "online"
    (tmp_path / "wandb" / "settings").write_bytes(b"\xff no settings")
    assert account.mode(Track()) == "online"


def test_wandb_s_variables_win_over_defaults_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_RUN_GROUP", "theirs")
    assert account.where(Track()) == {}
    assert account.where(Track(project="mine", group="mine")) == {"project": "mine", "group": "mine"}


def test_the_id_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = account.run_id(tmp_path)
    assert account.run_id(tmp_path) == first
    monkeypatch.setenv("WANDB_RUN_ID", "agent")
    assert account.run_id(tmp_path) == "agent"
    monkeypatch.delenv("WANDB_RUN_ID")
    assert account.run_id(tmp_path) == "agent"


def test_an_exported_id_is_one_run_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """WANDB_RUN_ID stays exported while several runs are trained: one has it, the others have their own."""
    warnings: list[str] = []
    monkeypatch.setenv("WANDB_RUN_ID", "exported")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert account.run_id(tmp_path / "a", warnings.append) == "exported"
    own = account.run_id(tmp_path / "b", warnings.append)
    assert own != "exported"
    assert warnings == [f"W&B: WANDB_RUN_ID=exported is the id of {tmp_path / 'a'}; this run has its own, {own}"]
    assert [account.run_id(tmp_path / name) for name in ("a", "b", "a")] == ["exported", own, "exported"]


def test_what_leads_to_another_process_or_to_no_folder_is_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-gone")
    account.prepare_environment()
    assert "WANDB_SERVICE" not in os.environ
    assert "WANDB_CACHE_DIR" not in os.environ, "the home directory can be written"
    for home in ("/proc/self", None):
        monkeypatch.setenv("HOME", home) if home else monkeypatch.delenv("HOME")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        account.prepare_environment()
        assert os.environ.pop("WANDB_CACHE_DIR") == str(tmp_path / "wandb-cache")
        assert os.environ.pop("WANDB_DATA_DIR") == str(tmp_path / "wandb-data")


def test_an_error_that_quotes_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = RuntimeError(f"https://user:hunter2@host/x refused\n{KEY}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert account.one_line(error) == "https://***@host/x refused ***"
    monkeypatch.delenv("WANDB_API_KEY")
    netrc(tmp_path, "api.wandb.ai")
    assert account.one_line(error) == "https://***@host/x refused ***"
    assert account.one_line(TimeoutError()) == "TimeoutError"
    assert without_secrets("a https://u:p@h/x b") == "a https://***@h/x b"


def test_the_id_that_a_run_has_already_is_no_other_run_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sweep's agent starts the same run again."""
    monkeypatch.setenv("WANDB_RUN_ID", "agent")
    (tmp_path / "a").mkdir()
    warnings: list[str] = []
    assert [account.run_id(tmp_path / "a", warnings.append) for _ in range(2)] == ["agent"] * 2
    assert warnings == []


def test_nothing_of_one_run_is_left_in_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
    for name in (*ours, "WANDB_PROJECT"):
        monkeypatch.setenv(name, "x")
    account.forget_other_runs()
    assert [name for name in os.environ if name.startswith("WANDB_")] == ["WANDB_PROJECT"]
