"""Exit codes and stop words have one place, src/run/layout.py: scripts, manifest, docs and console agree with it."""

import re

import pytest
import yaml

from src import console
from src.errors import JobFailed, UserError
from src.interrupts import SIGNALS
from src.run import layout
from src.run.layout import ExitCode, StopReason
from tests.helpers.ranks import ROOT

CODE = re.compile(r"\bexit (\d+)|\bverdict [!=]= (\d+)")


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        ("local.sh", {ExitCode.MISTAKE}),
        ("node.sh", set()),
        ("slurm.sbatch", {ExitCode.MISTAKE, ExitCode.TRY_AGAIN}),
    ],
)
def test_a_script_exits_with_known_codes(script: str, codes: set[ExitCode]) -> None:
    text = (ROOT / "launch" / script).read_text()
    assert {int(one or other) for one, other in CODE.findall(text)} == codes


def test_the_batch_script_requeues_after_try_again_alone() -> None:
    text = (ROOT / "launch" / "slurm.sbatch").read_text()
    assert f"if ((verdict != {ExitCode.TRY_AGAIN})); then\n  exit" in text
    assert f'"$run/{layout.STATUS}"' in text


def test_the_manifest_knows_the_codes_and_the_stop_file() -> None:
    manifests = yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text())
    (job,) = (manifest for manifest in manifests if manifest["kind"] == "Job")
    rules = job["spec"]["podFailurePolicy"]["rules"]
    by_code = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule}
    assert by_code == {"FailJob": [ExitCode.MISTAKE, ExitCode.STOPPED], "Ignore": [ExitCode.TRY_AGAIN]}
    (container,) = job["spec"]["template"]["spec"]["containers"]
    hook = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert hook.startswith(f"echo {layout.RESTART} >")
    assert f'/{layout.STOP}"' in hook


def test_the_docs_know_the_codes_and_the_stop_file() -> None:
    text = (ROOT / "docs" / "launch.md").read_text()
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert rows == set(ExitCode) - {ExitCode.INTERRUPTED}
    assert f"`echo {layout.RESTART} > runs/NAME/{layout.STOP}`" in text
    assert f"`{StopReason.MAX_MINUTES.value}`" in text


def test_every_signal_that_stops_has_its_reason() -> None:
    assert {number.name: reason.value for number, reason in SIGNALS.items()} == {
        reason.value: reason.value for reason in StopReason if reason.is_signal
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("a"), ExitCode.MISTAKE),
        (JobFailed("a"), ExitCode.FAILED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_an_error_s_exit_code(error: BaseException, code: ExitCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    with pytest.raises(SystemExit) as end, console.one_line_errors():
        raise error
    assert end.value.code == code


def test_only_what_the_user_asked_for_is_not_started_again() -> None:
    assert {reason for reason in StopReason if not reason.restart} == {StopReason.STOP_FILE, StopReason.MAX_MINUTES}
