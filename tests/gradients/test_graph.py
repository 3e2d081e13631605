"""train.cuda_graph: refused where it cannot be, else the same bits as without it. The second half needs a GPU."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src import schema
from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients import build, graph
from src.gradients.graph import Graph, refuse_graph, state_of
from src.run.layout import read_status
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.ranks import ROOT

MINE = """
import torch
from torch import nn
from torch.nn import functional

def build(settings, data):
    module = nn.Linear(data.shape[0] * data.shape[1], data.classes)
    module.register_buffer("seen", torch.zeros(()))
    return module

def loss(module, images, labels):
    LINE
    return functional.cross_entropy(module(images.flatten(1) / 255), labels, reduction="sum"), len(labels)
"""
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ON = schema.Train(cuda_graph=True)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))


def batches(device: torch.device, *sizes: int) -> list[MicroBatch]:
    generator = torch.Generator().manual_seed(1)
    return [
        MicroBatch(
            torch.randn(size, 784, generator=generator).to(device),
            torch.randint(0, 10, (size,), generator=generator).to(device),
        )
        for size in sizes
    ]


@pytest.mark.parametrize(
    ("settings", "device", "ranks", "draws", "message"),
    [
        (ON, CPU, 1, (), "this training is on the CPU; use a GPU, or train.cuda_graph=false"),
        (ON, GPU, 2, (), "DDP's wrapper on 2 ranks is not recorded; use train.sync=bitwise, or train.cuda_graph=false"),
        (ON, GPU, 1, ("numpy", "random"), "imports numpy and random, whose numbers .*; draw from torch, or use train"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    settings: schema.Train, device: torch.device, ranks: int, draws: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=f"train.cuda_graph=true: .*{message}"):
        refuse_graph(settings, device, ranks, draws)


def test_the_rest_is_not_refused() -> None:
    refuse_graph(ON, GPU, 1, ())
    refuse_graph(schema.Train(cuda_graph=True, sync="bitwise"), GPU, 8, ())
    refuse_graph(schema.Train(), CPU, 2, ("numpy",))


def test_the_job_refuses_it_before_there_is_a_run(small: str, tmp_path: Path) -> None:
    settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path}/runs", "train.device=cpu"]
    command = [sys.executable, "-m", "src.train", *settings, "train.cuda_graph=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: train.cuda_graph=true: this training is on the CPU; use a GPU, or")
    assert not (tmp_path / "runs").exists()


def test_a_replaced_buffer_and_a_counter_are_seen_and_a_buffer_changed_in_place_is_not() -> None:
    module: Any = model()
    module[0].register_buffer("mean", torch.zeros(3))
    module[0].calls = 0
    before = state_of(module)
    module[0].mean.add_(1)
    assert state_of(module) == before
    module[0].mean = module[0].mean + 1
    assert {name for name, value in state_of(module).items() if before[name] != value} == {"0.mean"}
    module[0].calls = 1
    assert {name for name, value in state_of(module).items() if before[name] != value} == {"0.mean", "0.calls"}


class Unrecorded:
    """Graph without a GPU: calls its function, and overwrites what it returned before, as a replay does."""

    def __init__(self, function: Callable[[], Any], what: str) -> None:
        self._function = function
        self._kept: Any = None

    def __call__(self) -> Any:
        """Compute."""
        loss, items, gradients = self._function()
        if self._kept is None:
            self._kept = (loss, items, gradients)
        pairs = zip([self._kept[0], *self._kept[2]], [loss, *gradients], strict=True)
        for kept, new in [pair for pair in pairs if pair[0] is not None]:
            kept.copy_(new)
        return self._kept


@pytest.fixture
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in, to which every call is the one that is recorded."""
    monkeypatch.setattr(graph, "Graph", Unrecorded)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


def normalised() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))


@pytest.mark.parametrize("made", [model, normalised])
@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_results_that_are_overwritten_are_added_in_time(
    sync: str, made: Callable[[], nn.Module], unrecorded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU with a stand-in for the graph: three micro-batches of one shape, and one of another."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # dropout draws on the CPU here
    found = []
    for recorded in (False, True):
        module, settings = made(), schema.Train(sync=sync, shards=4, cuda_graph=recorded)
        way = build.build_gradients(module, bce, settings, World())
        way.forward_backward(batches(CPU, 5, 5, 5, 3), 0, 0.0)
        result = way.forward_backward(batches(CPU, 5, 5, 5, 3), 1, 0.0)
        gradients = [parameter.grad for parameter in module.parameters()]
        found.append([*gradients, *module.buffers(), torch.tensor(result.loss)])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


class Cached(nn.Module):
    """Keeps a mask for the newest shape, as models do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.mask = nn.Linear(784, 10), torch.ones(1, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.mask.shape[0] != len(inputs):
            self.mask = torch.ones(len(inputs), 1)
        return self.linear(inputs) * self.mask  # type: ignore[no-any-return]


def test_what_a_graph_reads_is_kept_when_the_model_has_another(unrecorded: None) -> None:
    """A graph knows the mask's address; an evaluation, of other samples at once, lets the model make another mask."""
    module = Cached()
    module.mask = torch.ones(5, 1)
    way = build.build_gradients(module, bce, ON, World())
    way.forward_backward(batches(CPU, 5), 0, 0.0)
    mask = weakref.ref(module.mask)
    module(torch.zeros(3, 784))
    gc.collect()
    assert mask() is not None


def test_a_mask_that_is_made_anew_in_the_recorded_call_is_refused(unrecorded: None) -> None:
    way = build.build_gradients(Cached(), bce, ON, World())
    with pytest.raises(UserError, match="a step replaces mask of the model"):
        way.forward_backward(batches(CPU, 5), 0, 0.0)


def test_numbers_that_are_drawn_on_the_cpu_are_refused(unrecorded: None) -> None:
    """`if torch.rand(()) < 0.5` would be decided once."""
    way = build.build_gradients(model(), bce, ON, World())
    with pytest.raises(UserError, match=r"the model draws random numbers on the CPU, .*; draw them on the GPU"):
        way.forward_backward(batches(CPU, 5), 0, 0.0)


def test_the_banner_says_that_steps_are_recorded() -> None:
    assert build.build_gradients(model(), bce, ON, World()).name == "none (one rank), CUDA graph"


@needs_gpu
@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_a_recorded_gradient_has_the_bits_of_an_eager_one(sync: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout included: the random numbers of a step are those of its seed, in a graph too."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as the job does in bitwise mode
    found = []
    for recorded in (False, True):
        module, settings = model().to(GPU), schema.Train(sync=sync, shards=4, cuda_graph=recorded)
        way = build.build_gradients(module, bce, settings, World(device=GPU))
        steps = []
        for step in range(8):
            result = way.forward_backward(batches(GPU, 5, 5, 5, 3), step, 0.0)
            steps += [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
            steps.append(torch.as_tensor(result.loss).clone())
        found.append(steps)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[0][5]), "each step draws its own"


@needs_gpu
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scale = 1 if images.sum().item() else 2", "the forward and backward pass cannot be recorded ("),
        ("module.seen = module.seen + 1", "a step replaces seen of the model, which a recorded step cannot; change"),
    ],
)
def test_a_model_that_cannot_be_recorded_is_refused_in_one_line(
    line: str, message: str, small: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE.replace("LINE", line))
    settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path}/runs", f"model.name={file}"]
    command = [sys.executable, "-m", "src.train", *settings, "track.wandb=disabled", "train.cuda_graph=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: train.cuda_graph=true: {message}"), done.stderr


@needs_gpu
def test_a_graph_computes_what_its_tensors_hold_now() -> None:
    place = torch.zeros(3, device=GPU)
    doubled = Graph(lambda: place * 2, "it")
    for value in range(6):
        place.fill_(value)
        assert doubled().tolist() == [2.0 * value] * 3


@needs_gpu
@pytest.mark.parametrize("more", [["optim.momentum=0.9"], ["optim.name=adamw", "optim.clip_norm=0.5"]])
def test_a_recorded_run_resumes_to_the_bit(more: list[str], small: str, tmp_path: Path) -> None:
    def train(folder: str, *settings: str) -> Any:
        fixed = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path / folder}", *more]
        command = [sys.executable, "-m", "src.train", *fixed, "track.wandb=disabled", "train.cuda_graph=true"]
        subprocess.run([*command, "optim.schedule=cosine", "train.epochs=3", *settings], cwd=ROOT, check=True)
        (run,) = (tmp_path / folder).iterdir()
        return read_status(run).get("weights_sha256")

    whole = train("whole")
    train("parts", "train.max_steps=7")
    assert train("parts") == whole
