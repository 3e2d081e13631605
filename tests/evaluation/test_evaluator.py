"""What is measured when, on which samples and by whom, and when an evaluation ends the training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src import schema
from src.data import idx
from src.data.dataset import DataSet
from src.data.splits import Split
from src.errors import ModelFailed
from src.evaluation import measure
from src.evaluation.evaluator import Evaluator
from src.models import Model
from src.run import archive, jsonl, layout, trained
from src.run.layout import read_status
from src.world.world import World
from tests.helpers.bare_models import SPEC, logistic
from tests.helpers.commands import command
from tests.helpers.data_sets import write_idx
from tests.helpers.ranks import Job, good_job, in_world, run_job

SAMPLES = 57


def dataset(validation: int = 0) -> DataSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SAMPLES, 28, 28), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 10, (SAMPLES,), generator=generator))
    made = DataSet(name="x", train=split, test=split, spec=SPEC, checksums={})
    return made.held_out(validation, 0)


def evaluator(world: World, ranks: str = "first", interrupted: Callable[[], bool] = lambda: False) -> Evaluator:
    return Evaluator(logistic(), dataset(), schema.Evaluate(ranks=ranks), world, interrupted)


@pytest.mark.parametrize("ranks", [2, 3])
def test_shared_by_all_ranks_it_has_the_bits_of_one(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SAMPLES_AT_ONCE", 10)
    module = logistic().build(SPEC, 1)
    alone = evaluator(World()).measure(module, module)
    assert alone is not None

    def work(world: World) -> tuple[Any, Any]:
        return evaluator(world, "all").measure(module, module), evaluator(world, "first").measure(module, module)

    for rank, (shared, first) in enumerate(in_world(ranks, work, tmp_path).values):
        assert shared == alone, "bit for bit, tables and averages included"
        assert first == (alone if rank == 0 else alone.without_tables())


def test_floats_are_added_in_the_order_of_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of which another order has other bits."""
    monkeypatch.setattr(measure, "SAMPLES_AT_ONCE", 10)
    module = logistic().build(SPEC, 1)
    firsts = [int(dataset().test.range(start, start + 1)[0].sum()) for start in range(0, SAMPLES, 10)]
    values = dict(zip(firsts, [1e16, -1e16, 0.0, 1.0, 0.0, 0.0], strict=True))

    def measured(model: Model, module: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.tensor(values[int(inputs[:1].sum())], dtype=torch.float64)}

    monkeypatch.setattr(Model, "measure", measured)
    monkeypatch.setattr(Model, "metrics", lambda model, sums: {"loss": ("loss", "count")})
    monkeypatch.setattr(Model, "best", lambda model, names: ("loss", False))
    alone = evaluator(World()).measure(module, None)
    job = in_world(3, lambda world: evaluator(world, "all").measure(module, None), tmp_path)
    assert job.values == [alone] * 3


def test_fewer_chunks_than_ranks(tmp_path: Path) -> None:
    module = logistic().build(SPEC, 1)
    job = in_world(3, lambda world: evaluator(world, "all").measure(module, None), tmp_path)
    assert job.values == [evaluator(World()).measure(module, None)] * 3


@pytest.mark.parametrize("ranks", ["first", "all"])
def test_a_rank_that_is_asked_to_stop_stops_all(ranks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SAMPLES_AT_ONCE", 10)
    module = logistic().build(SPEC, 1)
    asked = 0 if ranks == "first" else 1

    def work(world: World) -> object:
        return evaluator(world, ranks, lambda: world.rank == asked).measure(module, None)

    assert in_world(2, work, tmp_path).values == [None, None]


def test_an_error_of_one_rank_is_raised_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SAMPLES_AT_ONCE", 30)
    module = logistic().build(SPEC, 1)

    def failing(model: Model, module: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if len(targets) < 30:  # the second chunk, which is rank 1's
            raise ModelFailed("too few")
        return {"loss": torch.tensor(1.0)}

    monkeypatch.setattr(Model, "measure", failing)

    def work(world: World) -> str:
        with pytest.raises(ModelFailed) as found:
            evaluator(world, "all").measure(module, None)
        return str(found.value)

    assert in_world(2, work, tmp_path).values == ["too few", "too few"]


def test_what_is_due_when() -> None:
    made = Evaluator(logistic(), dataset(), schema.Evaluate(every_epochs=2, every_steps=5), World(), lambda: False)
    assert [step for step in range(12) if made.due_at_step(step)] == [5, 10]
    assert [epoch for epoch in range(1, 6) if made.due_at_epoch(epoch)] == [2, 4]
    never = Evaluator(logistic(), dataset(), schema.Evaluate(every_epochs=0), World(), lambda: False)
    assert not any(never.due_at_step(number) or never.due_at_epoch(number) for number in range(1, 12))
    assert (made.kind, Evaluator(logistic(), dataset(7), schema.Evaluate(), World(), lambda: False).kind) == (
        "test",
        "validation",
    )


def train(ranks: int, folder: Path, small: str, *settings: str) -> Job:
    fixed = ("data.name=idx", f"data.root={small}", "run.name=x", "train.sync=bitwise")
    return good_job(ranks, folder, *fixed, "train.global_batch_size=20", *settings)


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [line for line in jsonl.read(run / layout.METRICS) if line["kind"] != "train"]


def test_best_is_chosen_on_what_was_held_out_and_the_test_set_is_measured_once(small: str, tmp_path: Path) -> None:
    settings = ("data.validation=0.2", "train.epochs=5", "optim.lr=0.5", "evaluate.ranks=all")
    done = train(2, tmp_path, small, *settings)
    assert "best.pt is chosen on the validation samples" in done.output
    found = evaluations(done.run)
    assert [line["kind"] for line in found] == ["validation"] * 5 + ["test"]
    held_out = {line["step"]: line["accuracy"] for line in found[:-1]}
    best = archive.read(done.run / "checkpoints" / "best.pt")
    step = int(best["progress"]["step"])
    assert held_out[step] == max(held_out.values())
    assert step != max(held_out), "the newest weights are others"
    assert f"(best.pt, step {step})" in done.output
    status = read_status(done.run)
    assert status["correct"] == found[-1]["correct"]
    last = trained.load(done.run)
    measured = measure.evaluate(last.model, last.module, trained.test_of(last).test)
    assert found[-1]["loss"] == measured.values["loss"], "of best.pt's weights"
    printed = command("src.evaluate", str(done.run)).stdout
    assert f"test  {status['correct']}/{status['count']} = " in printed, "evaluate measures the same weights"
    alone = train(1, tmp_path / "alone", small, *settings[:-1])
    assert evaluations(alone.run) == found, "the same samples are held out, and the same are measured"
    assert read_status(alone.run)["weights_sha256"] == status["weights_sha256"], "the newest weights are back"


def test_without_held_out_samples_it_says_what_decides(small: str, tmp_path: Path) -> None:
    done = train(1, tmp_path, small, "train.epochs=1")
    assert "best     best.pt is chosen on the test set (data.validation=0)\n" in done.output


def test_evaluations_by_steps(small: str, tmp_path: Path) -> None:
    settings = ("train.epochs=2", "evaluate.every_epochs=0", "evaluate.every_steps=4", "checkpoint.every_steps=4")
    whole = train(1, tmp_path / "whole", small, *settings)
    steps = [line["step"] for line in evaluations(whole.run)]
    last = int(read_status(whole.run)["step"])
    assert steps == [*range(4, last, 4), last], "and once at the end"
    killed = run_job(
        2,
        tmp_path,
        "data.name=idx",
        f"data.root={small}",
        "run.name=x",
        "train.sync=bitwise",
        "train.global_batch_size=20",
        *settings,
        fault="renamed@2",
    )
    assert -9 in killed.codes
    again = train(1, tmp_path, small, *settings)
    assert evaluations(again.run) == evaluations(whole.run), "one that was saved before is repeated, once"


PATIENT = ("train.epochs=9", "train.patience=2", "optim.lr=1e-12")


def test_patience_ends_the_training_as_finished(small: str, tmp_path: Path) -> None:
    first = train(1, tmp_path, small, *PATIENT)
    status = read_status(first.run)
    per_epoch = status["steps_per_epoch"]
    assert (status["state"], status["ended"], status["epoch"]) == ("finished", "patience", 3)
    reason = f"ended early: best at step {per_epoch}, no better one for train.patience=2"
    assert status["reason"] == reason
    assert f"3 epochs, {3 * per_epoch} steps; {reason}\n" in first.output
    again = train(1, tmp_path, small, *PATIENT)
    assert again.output.startswith(f"{first.run}: is finished")
    row = command("src.status", str(first.run)).stdout
    assert "finished" in row
    longer = train(2, tmp_path, small, *PATIENT, "train.patience=4")
    assert read_status(longer.run)["epoch"] == 5
    assert [line["step"] for line in evaluations(longer.run)] == [per_epoch * epoch for epoch in range(1, 6)]
    assert train(1, tmp_path, small, *PATIENT, "train.patience=3").output.startswith(f"{first.run}: is finished")


@pytest.mark.parametrize("at", [2, 3])
def test_patience_is_the_same_after_a_kill_on_another_world(at: int, small: str, tmp_path: Path) -> None:
    whole = train(2, tmp_path / "whole", small, *PATIENT)
    fixed = ("data.name=idx", f"data.root={small}", "run.name=x", "train.sync=bitwise", "train.global_batch_size=20")
    assert -9 in run_job(2, tmp_path, *fixed, *PATIENT, fault=f"renamed@{at}").codes
    again = train(3, tmp_path, small, *PATIENT)
    names = ("step", "weights_sha256", "reason")
    assert [read_status(again.run)[name] for name in names] == [read_status(whole.run)[name] for name in names]


def test_a_model_may_have_enough(small: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = (Path(__file__).parents[2] / "src" / "models" / "logistic.py").read_text()
    file.write_text(f"{source}\n\ndef enough(values):\n    return values['loss'] < 1e9\n")
    settings = ("train.epochs=3", f"model.name={file}", "evaluate.every_steps=3")
    done = train(2, tmp_path, small, *settings)
    status = read_status(done.run)
    assert (status["state"], status["ended"], status["step"]) == ("finished", "model", 3)
    assert status["reason"] == "ended early by mine.py"
    assert train(2, tmp_path, small, *settings).output.startswith(f"{done.run}: is finished")


def test_many_classes_leave_metrics_jsonl_small(tmp_path: Path) -> None:
    raw = tmp_path / "IDX" / "raw"
    labels = torch.arange(1000).repeat(2)
    for names in (idx.TRAIN, idx.TEST):
        write_idx(raw / names[0], torch.randint(0, 256, (2000, 4, 4)))
        values = labels.numpy().astype(">i4").tobytes()
        (raw / names[1]).write_bytes(bytes((0, 0, 0x0C, 1)) + len(labels).to_bytes(4, "big") + values)
    done = good_job(2, tmp_path, "data.name=idx", f"data.root={tmp_path}", "train.epochs=2", "log.every=1000")
    assert (done.run / "metrics.jsonl").stat().st_size < 3000
    assert (done.run / "tables" / "confusion.json").stat().st_size > 1_000_000


def test_the_result_on_the_test_set_is_not_given_up_for_a_signal() -> None:
    module = logistic().build(SPEC, 1)
    asked = evaluator(World(), interrupted=lambda: True)
    assert asked.measure(module, None) is None
    assert asked.test(module, None).count == SAMPLES
