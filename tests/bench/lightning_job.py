"""The same job with Lightning, under torchrun; no logger, bar or checkpoints, which would only slow it down."""

import logging
import os
import warnings

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.bench.common import Clock, correct_of, dataset, leave, options, report, stopwatch


class Job(lightning.LightningModule):
    """Linear, sigmoid, binary cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Sigmoid())
        self.criterion = nn.BCELoss()
        self.clock, self._watch = Clock(), stopwatch()

    def training_step(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        loss: Tensor = self.criterion(self.model(images), functional.one_hot(labels, 10).float())
        if (step + 1) % 100 == 0 and self.global_rank == 0:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def on_train_start(self) -> None:
        """Start the clock."""
        self.clock = self._watch.__enter__()

    def on_train_end(self) -> None:
        """Stop it."""
        self._watch.__exit__(None, None, None)


def main() -> None:
    """Train, evaluate on rank 0, print a line of JSON."""
    chosen = options()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    lightning.seed_everything(0, verbose=False)
    ranks = int(os.environ["WORLD_SIZE"])
    train, job = dataset(chosen.root, True), Job()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp",
        max_epochs=chosen.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(job, DataLoader(train, batch_size=64 // ranks, shuffle=True))
    if trainer.is_global_zero:
        report(chosen.epochs * len(train) / job.clock.seconds, correct_of(job.model, dataset(chosen.root, False)))


if __name__ == "__main__":
    main()
    leave()
