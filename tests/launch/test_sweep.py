"""launch/sweep.yaml with wandb's own sweep and agent, against a server on loopback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.run.layout import read_status
from tests.helpers.ranks import ROOT
from tests.helpers.wandb_runs import environment, expected, received
from tests.helpers.wandb_server import WandbServer


def wandb(home: Path, server: WandbServer, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *arguments],
        cwd=ROOT,
        env=environment(home, **server.environment, WANDB_DIR=str(home), PYTHON=sys.executable),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow(seconds=30)
def test_the_sweep_agent_s_parameters_reach_the_job(small: str, tmp_path: Path) -> None:
    sweep = yaml.safe_load((ROOT / "launch" / "sweep.yaml").read_text())
    sweep["command"] += ["data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}"]
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    with WandbServer() as server:
        told = wandb(tmp_path, server, "sweep", "--project=p", str(file))
        assert re.search(r"wandb agent tester/p/sweep1", told), told
        server.sweep_runs = 2 * [{"optim.lr": 0.25, "optim.momentum": 0.5, "model.loss": "cross_entropy"}]
        wandb(tmp_path, server, "agent", "tester/p/sweep1")
        assert set(server.runs) == {"swept1", "swept0"}, "two draws of the same values are two runs"
        tracked = server.runs["swept0"]
    runs = {run.name.rpartition("-")[2]: run for run in (tmp_path / "runs").iterdir()}
    assert runs.keys() == server.runs.keys()
    for name, run in runs.items():
        assert read_status(run)["state"] == "finished"
        assert received(server.runs[name].history) == expected(run)
    optim = tracked.config["optim"]
    assert (optim["lr"], optim["momentum"], tracked.config["model"]["loss"]) == (0.25, 0.5, "cross_entropy")
    assert sweep["metric"]["name"] in tracked.summary
    assert tracked.exit_code == 0
    assert not [entry for entry in os.listdir(ROOT) if entry.startswith("sweep-")]
