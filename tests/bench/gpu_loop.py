"""The loops that people write, on one GPU, with the model and the data of this job's settings.

python -m tests.bench.gpu_loop plain|resident|accelerate|lightning key=value ...

The first epoch is not timed: it compiles, and starts the workers of the DataLoader.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src import config, models
from src.data import dataset as datasets
from src.gradients.step import in_precision
from src.schema import Config
from src.world.world import World
from tests.bench.common import leave, report

WORKERS = 4  # of the DataLoader
LOG_EVERY = 100
DEVICE = torch.device("cuda")


class Watch:
    """Counts the samples of all epochs but the first, and the seconds that they took."""

    def __init__(self) -> None:
        self.samples, self._epochs, self._began = 0, 0, 0.0

    def epoch(self) -> None:
        """An epoch begins."""
        self._epochs += 1
        if self._epochs == 2:
            torch.cuda.synchronize()
            self._began = time.perf_counter()

    def count(self, samples: int) -> None:
        """A step was made."""
        self.samples += samples * (self._epochs > 1)

    def rate(self) -> float:
        """Samples per second."""
        torch.cuda.synchronize()
        return self.samples / (time.perf_counter() - self._began)


Objective = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Train and print a line of JSON."""
    warnings.filterwarnings("ignore")
    report(rate(*sys.argv[1:]), 0)


def rate(loop: str, *arguments: str) -> float:
    """Samples per second of a loop with these settings."""
    settings = config.parse(list(arguments))
    dataset = datasets.load(settings.data, World(), print)
    model = models.load(config.model_path(settings.model), settings.model.settings)
    module = model.build(dataset.spec, settings.train.seed)
    train = dataset.train.range(0, len(dataset.train))
    if settings.train.compile:
        module.compile()
    loops: dict[str, Callable[..., float]] = {
        "plain": plain, "resident": resident, "accelerate": accelerated, "lightning": lightning_loop
    }  # fmt: skip
    return loops[loop](settings, model, module, *train)


def optimizer_of(settings: Config, module: nn.Module) -> torch.optim.Optimizer:
    """As torch's users make it."""
    optim = settings.optim
    if optim.name == "adamw":
        return torch.optim.AdamW(module.parameters(), optim.lr, weight_decay=optim.weight_decay)
    return torch.optim.SGD(module.parameters(), optim.lr, optim.momentum, weight_decay=optim.weight_decay)


def loader_of(settings: Config, inputs: Tensor, targets: Tensor) -> Iterable[list[Tensor]]:
    """As torch's users make it: workers, pinned memory."""
    return DataLoader(
        TensorDataset(inputs, targets),
        settings.train.global_batch_size,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=True,
        persistent_workers=True,
    )


def batches_on_gpu(settings: Config, inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What a practised hand writes: the data set on the GPU, an epoch's permutation, slices of it."""
    order = torch.randperm(len(inputs), device=DEVICE)
    for rows in torch.split(order, settings.train.global_batch_size):
        yield inputs[rows], targets[rows]


def plain(settings: Config, model: Any, module: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """torch alone, with a DataLoader."""
    loader = loader_of(settings, inputs, targets)
    return _train(settings, model, module, lambda: ([each.to(DEVICE, non_blocking=True) for each in b] for b in loader))


def resident(settings: Config, model: Any, module: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """torch alone, with the data set on the GPU."""
    there = inputs.to(DEVICE), targets.to(DEVICE)
    return _train(settings, model, module, lambda: batches_on_gpu(settings, *there))


def _train(settings: Config, model: Any, module: nn.Module, epoch: Callable[[], Iterable[Any]]) -> float:
    optimizer, watch = optimizer_of(settings, module.to(DEVICE)), Watch()
    loss_of = in_precision(model.loss, settings.train.precision, DEVICE)
    for _ in range(settings.train.epochs):
        watch.epoch()
        for step, (inputs, targets) in enumerate(epoch()):
            optimizer.zero_grad()
            summed, items = loss_of(module, inputs, targets)
            loss = summed / items
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watch.count(len(inputs))
            if (step + 1) % LOG_EVERY == 0:
                print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
    return watch.rate()


def accelerated(settings: Config, model: Any, module: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Hugging Face Accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="bf16" if settings.train.precision == "bfloat16" else "no")
    prepared, optimizer, loader = accelerator.prepare(
        module, optimizer_of(settings, module), loader_of(settings, inputs, targets)
    )
    watch = Watch()
    for _ in range(settings.train.epochs):
        watch.epoch()
        for step, (some, theirs) in enumerate(loader):
            optimizer.zero_grad()
            with accelerator.autocast():
                summed, items = model.loss(prepared, some, theirs)
            loss = summed / items
            accelerator.backward(loss)
            optimizer.step()
            watch.count(len(some))
            if (step + 1) % LOG_EVERY == 0:
                accelerator.print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
    return watch.rate()


def lightning_loop(settings: Config, model: Any, module: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Lightning, without a logger, a bar or checkpoints, which would only slow it down."""
    import lightning

    watch = Watch()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Job(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def on_train_epoch_start(self) -> None:
            watch.epoch()

        def training_step(self, batch: list[Tensor], step: int) -> Tensor:
            summed, items = model.loss(self.module, *batch)
            loss: Tensor = summed / items
            watch.count(len(batch[0]))
            if (step + 1) % LOG_EVERY == 0:
                print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(settings, self.module)

    trainer = lightning.Trainer(
        accelerator="gpu",
        devices=1,
        precision="bf16-mixed" if settings.train.precision == "bfloat16" else "32-true",
        max_epochs=settings.train.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Job(), loader_of(settings, inputs, targets))
    return watch.rate()


if __name__ == "__main__":
    main()
    leave()
