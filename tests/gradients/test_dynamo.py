"""DistributedDataParallel does not import torch's compiler; whoever asks for more of it gets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.once import made_once
from tests.helpers.ranks import ROOT

ALONE = """
import sys, torch, torch.distributed as dist
from src.gradients import dynamo
from src.gradients.ddp import DDPGradients
from src.data.loader import MicroBatch
from src.gradients.step import Seed
from src.schema import Train
from src.world.world import World

def begin():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)

def step():
    torch.manual_seed(1)
    module, world = torch.nn.Linear(3, 1), World(backend="gloo")
    loss = lambda module, inputs, targets: (module(inputs).square().sum(), len(targets))
    gradients = DDPGradients(module, loss, Seed(0, world.device, ()), world, None, "gloo", None, ())
    gradients.forward_backward([MicroBatch(torch.ones(2, 3), torch.zeros(2), True)], 0, False)
    return [parameter.grad.tolist() for parameter in module.parameters()]
"""
NAME = "print(torch._dynamo.__name__)"
CASES = [
    (["step(); print('torch._dynamo' in sys.modules, '_dynamo' in torch.__dict__)"], "False False"),
    (["alone = step(); import torch._dynamo; print(step() == alone)", NAME], "True\ntorch._dynamo"),
    (["with dynamo.absent(): print(torch._dynamo.config.optimize_ddp)", NAME], "True\ntorch._dynamo"),
    (["with dynamo.absent(): print(torch._dynamo.utils.istype(1, int))", NAME], "True\ntorch._dynamo"),
    (["with dynamo.absent(): import torch._dynamo", "print(torch._dynamo.utils.istype(1, int))"], "True"),
]
FORKED = """
import os, traceback
for number, lines in enumerate({cases}):
    if os.fork() == 0:
        handle = os.open(f"{folder}/{{number}}", os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, 1)
        try:
            begin()
            exec("\\n".join(lines))
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="session")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/NUMBER is what the lines of a case print: each in a fork of one Python without the compiler."""

    def make(folder: Path) -> None:
        program = ALONE + FORKED.format(cases=[lines for lines, _ in CASES], folder=folder)
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "dynamo", make)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_compiler_is_imported_only_where_it_is_asked_for(number: int, printed: Path) -> None:
    assert (printed / str(number)).read_text().strip() == CASES[number][1]
