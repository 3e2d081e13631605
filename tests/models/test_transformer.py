"""The transformer: causal, with tied weights, its loss a plain one, its answers counted exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from src import model_file, models
from src.data.splits import Spec
from src.errors import UserError
from src.export import weights
from src.models import Model
from src.run import jsonl, layout, tables, trained
from src.run.layout import read_status
from tests.helpers.commands import command
from tests.helpers.ranks import ROOT, Job, good_job

BLOCK = 32
SPEC = Spec((BLOCK,), torch.uint8, 0, (BLOCK,), torch.uint8)


def transformer(**settings: float) -> Model:
    return models.load(
        model_file.find("transformer"), {"width": 16, "layers": 2, "heads": 2, "dropout": 0.0} | settings
    )


def blocks(count: int) -> tuple[Tensor, Tensor]:
    text = torch.randint(0, 256, (count, BLOCK + 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return text[:, :-1], text[:, 1:]


def test_it_keeps_the_contract() -> None:
    model, (tokens, following) = transformer(), blocks(3)
    module = model.build(SPEC, 0)
    assert module(tokens).shape == (3, BLOCK, 256)
    model.check(module, tokens, following)
    metrics = model.metrics(["loss", "tokens", "right_tokens", "answers", "right_answers"])
    assert list(metrics) == ["answer_accuracy", "loss", "accuracy"]
    assert model.best(list(metrics)) == ("loss", False)


def test_a_later_byte_changes_no_earlier_logit() -> None:
    tokens, _ = blocks(1)
    module = transformer().build(SPEC, 0)
    before = module(tokens)
    for at in (0, 7, BLOCK - 1):
        changed = tokens.clone()
        changed[0, at] ^= 1
        after = module(changed)
        assert torch.equal(after[:, :at], before[:, :at])
        assert not torch.equal(after[:, at], before[:, at])
        assert not torch.equal(after[:, -1], before[:, -1]), "the last one sees all"


def test_the_place_of_a_byte_counts() -> None:
    """Without the rotations attention sees a set: two bytes before the last could change places."""
    tokens, _ = blocks(1)
    swapped = tokens[:, [1, 0, *range(2, BLOCK)]]
    module = transformer(layers=1).build(SPEC, 0)
    assert not torch.allclose(module(tokens)[:, -1], module(swapped)[:, -1], atol=1e-6)
    dict(module.named_buffers())["rotary"].copy_(torch.tensor([1.0, 0.0])[:, None, None])
    assert torch.allclose(module(tokens)[:, -1], module(swapped)[:, -1], atol=1e-6)


def test_the_rotations_are_by_the_distance_alone() -> None:
    """Queries and keys of two positions multiply to the same number wherever they are, so far apart."""
    module = transformer().module
    table = module.rotary_table(BLOCK, 8)
    assert table.shape == (2, BLOCK, 4)
    query, key = (module.rotated(torch.randn(1, 1, 1, 8).expand(1, 1, BLOCK, 8), table)[0, 0] for _ in range(2))
    products = query @ key.T
    for apart in (1, 5):
        line = products.diagonal(apart)
        assert torch.allclose(line, line[:1].expand_as(line), atol=1e-4)
    assert torch.allclose(query.norm(dim=1), query[0].norm(), atol=1e-5)


def test_the_loss_is_the_plain_one() -> None:
    """Byte by byte in a loop, from the text before it alone."""
    model, (tokens, following) = transformer(), blocks(2)
    module = model.build(SPEC, 0)
    loss, items = model.loss(module, tokens, following)
    plain = torch.zeros(())
    for row, targets in zip(tokens, following, strict=True):
        for at in range(BLOCK):
            chances = module(torch.cat([row[: at + 1], row.new_zeros(BLOCK - at - 1)])[None])[0, at].softmax(0)
            plain = plain - chances[int(targets[at])].log()
    assert items == 2 * BLOCK
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-3)


def test_tied_weights_are_one_tensor_of_the_state() -> None:
    module = transformer().build(SPEC, 0)
    large = [name for name, tensor in module.state_dict().items() if 256 in tensor.shape]
    assert large == ["embedding.weight"]
    tokens, following = blocks(2)
    summed, _ = transformer().loss(module, tokens, following)
    summed.backward()  # type: ignore[no-untyped-call]
    unseen = sorted({*range(256)} - {*tokens.flatten().tolist()})
    learnt = dict(module.named_parameters())["embedding.weight"].grad
    assert learnt is not None
    assert bool(learnt[unseen].any(1).all()), "a byte that is an output alone learns too"
    assert "rotary" in dict(module.named_buffers())


class Fixed(torch.nn.Module):
    """Predicts the bytes that it is given."""

    def __init__(self, predicted: bytes) -> None:
        super().__init__()
        self.logits = functional.one_hot(torch.tensor([*predicted]), 256).float()[None]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits


@pytest.mark.parametrize(
    ("text", "predicted", "answers", "right"),
    [
        (b"9\n1+2=3\n10+20=30\n4", b".....3\n......30\n.", 2, 2),
        (b"9\n1+2=3\n10+20=30\n4", b".....3\n......31\n.", 2, 1),
        (b"9\n1+2=3\n10+20=30\n4", b".....33......30\n.", 2, 1),  # a digit too many
        (b"9\n1+2=3\n10+20=30\n4", b".....4\n......3..\n", 2, 0),
        (b"1+2=3\n4+5=9", b"...3\n...9.", 0, 0),  # cut at both ends
        (b"\n1+2=3\r\n", b"....3\r\n", 1, 1),
        (b"\n1+2=3\r\n", b"....3\n\n", 1, 0),
        (b"\nx = 3\n1-2=3\n+2=2\n1+1=\n", b"                       \n", 0, 0),
        (b"no sums\n\n==++\n", b"              ", 0, 0),
    ],
)
def test_answers_are_counted_exactly(text: bytes, predicted: bytes, answers: int, right: int) -> None:
    tokens, following = (torch.tensor([[*part]], dtype=torch.uint8) for part in (text[:-1], text[1:]))
    predicted = predicted.ljust(len(text) - 1, b".")[: len(text) - 1]
    sums: dict[str, Any] = {**transformer().measure(Fixed(predicted), tokens, following)}
    assert (sums["answers"], sums["right_answers"]) == (answers, right)
    assert all(type(sums[name]) is int for name in ("answers", "right_answers", "tokens"))
    equal = sum(one == other for one, other in zip(text[1:], predicted, strict=True))
    assert (sums["tokens"], int(sums["right_tokens"])) == (len(text) - 1, equal)


@pytest.mark.parametrize("spec", [Spec((28, 28), torch.uint8, 10), Spec((8,), torch.float32, 0, (8,), torch.float32)])
def test_other_data_are_refused_in_one_line(spec: Spec) -> None:
    with pytest.raises(UserError, match=r"^transformer\.py: needs bytes \(length,\), each with the byte that follows"):
        transformer().build(spec, 0)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"py: model\.width=16: must be a multiple of 2 x model\.heads=3$"):
        transformer(heads=3).build(SPEC, 0)


SMALL = ("model.name=transformer", "model.width=16", "model.heads=2", "model.layers=1", "data.block=32")


def short(folder: Path, *settings: str, ranks: int = 2) -> Job:
    """A few steps on two ranks."""
    fixed = (f"data.root={folder / 'data'}", "train.epochs=1", "train.global_batch_size=1024", "run.name=r")
    return good_job(ranks, folder, *SMALL, *fixed, "optim.name=adamw", *settings)


def test_it_trains_on_two_ranks_and_every_command_takes_it(tmp_path: Path) -> None:
    job = short(tmp_path, "data.name=sums")
    assert job.output.startswith("rendering the embedded sums into ")
    status = read_status(job.run)
    assert (status["state"], status["data"], status["world_size"]) == ("finished", "sums", 2)
    assert status["tokens"] == 32 * status["count"]
    assert status["loss"] < 5, "log(256) is 5.5"
    run = str(job.run)
    done = command("src.evaluate", run)
    assert done.returncode == 0, done.stderr
    assert f"/{status['answers']} = " in done.stdout
    assert "sums" in command("src.status", run).stdout
    assert command("src.report", run).returncode == 0
    refused = command("src.predict", run, "x.txt")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {run}: transformer.py gives no probability for each class of its data;")
    other = command("src.evaluate", run, "data.block=16")
    kinds = "the training inputs are (32,) uint8, those of the test set (16,) uint8"
    assert other.stderr.endswith(f"data/sums: {kinds}\n")


def test_the_exports_compute_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    run = short(tmp_path, "data.name=sums", ranks=1).run
    count = len(trained.test_of(trained.load(run)).test)
    assert f"{count}/{count} predictions as torch's" in weights.export(run, "onnx", tmp_path / "m.onnx")
    assert f"{count} samples" in weights.export(run, "safetensors", tmp_path / "m.safetensors")


def test_text_without_sums_has_no_answers_and_no_nan(tmp_path: Path) -> None:
    (tmp_path / "data" / "text").mkdir(parents=True)
    for name in ("train.txt", "test.txt"):
        (tmp_path / "data" / "text" / name).write_text("A text without any sum.\n" * 400)
    job = short(tmp_path, "data.name=text")
    assert "nan" not in job.output
    assert "answer_accuracy" not in job.output
    assert "test  loss " in job.output
    line = next(line for line in jsonl.read(job.run / layout.METRICS) if line["kind"] == "test")
    assert line["answers"] == 0
    assert "answer_accuracy" not in line
    described = tables.read(job.run, "metrics")
    assert (described["names"], described["best"]) == (["loss", "accuracy"], "loss")
    assert "nan" not in command("src.status", str(job.run)).stdout.lower()
    assert "NaN" not in (job.run / "report.html").read_text().split('id="facts">')[1].split("</script>")[0]


@pytest.mark.slow(seconds=90)
def test_a_short_form_of_its_config_adds(tmp_path: Path) -> None:
    """Four epochs of six; until it has learnt to add, less than a tenth of the answers is right."""
    settings = (f"config={ROOT / 'configs' / 'transformer.yaml'}", f"data.root={tmp_path}", "train.epochs=4")
    job = good_job(2, tmp_path, *settings, "model.name=transformer")
    assert read_status(job.run)["answer_accuracy"] > 0.9, job.output
