"""DistributedDataParallel does not import torch's compiler; whoever asks for more of it gets it."""

import subprocess
import sys

import pytest

from tests.helpers.ranks import ROOT

ALONE = """
import sys, torch, torch.distributed as dist
from src.gradients import dynamo
from src.gradients.ddp import DDPGradients
from src.data.loader import MicroBatch
from src.gradients.step import Seed
from src.schema import Train
from src.world.world import World

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


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["step(); print('torch._dynamo' in sys.modules, '_dynamo' in torch.__dict__)"], "False False"),
        (["alone = step(); import torch._dynamo; print(step() == alone)", NAME], "True\ntorch._dynamo"),
        (["with dynamo.absent(): print(torch._dynamo.config.optimize_ddp)", NAME], "True\ntorch._dynamo"),
        (["with dynamo.absent(): print(torch._dynamo.utils.istype(1, int))", NAME], "True\ntorch._dynamo"),
        (["with dynamo.absent(): import torch._dynamo", "print(torch._dynamo.utils.istype(1, int))"], "True"),
    ],
)
def test_the_compiler_is_imported_only_where_it_is_asked_for(lines: list[str], said: str) -> None:
    command = [sys.executable, "-c", ALONE + "\n".join(lines)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (said, 0), done.stderr
