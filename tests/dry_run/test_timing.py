"""How long steps and evaluations take: how many are made, by all ranks alike."""

from dataclasses import replace
from pathlib import Path

import pytest

from src import config
from src.console import Console
from src.dry_run import timing
from src.dry_run.plan import Plan, build
from src.gradients.graph import WARM_UP
from src.world.world import World
from tests.helpers.dry_runs import settings
from tests.helpers.ranks import in_world


def plan(world: World, *chosen: str) -> Plan:
    return build(config.parse([*chosen]), world, Console(False, 1, 64, 2.0))


@pytest.mark.parametrize("ranks", [1, 2])
def test_all_ranks_make_as_many_steps_over_the_end_of_epochs(ranks: int, small: str, tmp_path: Path) -> None:
    def work(world: World) -> tuple[tuple[int, float], int]:
        made = plan(world, *settings(small, f"run.root={tmp_path}"))
        return timing.time_steps(made), made.parts.state.progress.step

    values = in_world(ranks, work, tmp_path).values
    (count, seconds), steps = values[0]
    assert [value == values[0] for value in values] == [True] * ranks
    assert steps == count + timing.WARM_STEPS
    assert seconds > 0


def test_steps_are_timed_once_they_are_recorded(small: str, tmp_path: Path) -> None:
    made = plan(World(), *settings(small, f"run.root={tmp_path}"))
    of_gpu = replace(made.parts.settings, train=replace(made.parts.settings.train, cuda_graph=True))
    count, _ = timing.time_steps(replace(made, parts=replace(made.parts, settings=of_gpu)))
    assert made.parts.state.progress.step == count + timing.WARM_STEPS + WARM_UP


def test_one_sample_at_a_step_and_no_time(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    made = plan(World(), *settings(small, f"run.root={tmp_path}", "train.global_batch_size=2000"))
    assert timing.time_steps(made)[0] == 1


def test_an_evaluation_is_cut_short(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(World(), *settings(small, f"run.root={tmp_path}"))
    whole = timing.time_evaluation(made)
    monkeypatch.setattr(timing, "SAMPLES_AT_ONCE", 100)
    assert whole > 0
    assert timing.time_evaluation(made) > 0
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    assert timing.time_evaluation(made) >= 0
