"""What the drill trains: for each model settings with everything that could make two runs differ."""

from dataclasses import dataclass

COMMON = ("train.sync=bitwise", "train.device=cpu", "track.wandb=disabled")
EVERYTHING = (
    "train.epochs=3",
    "train.max_steps=141",
    "train.precision=bfloat16",
    "optim.name=adamw",
    "optim.lr=0.002",
    "optim.weight_decay=0.01",
    "optim.schedule=wsd",
    "optim.clip_norm=1",
    "optim.average=2000",
    "checkpoint.every_steps=8",
    "log.every=2",
)


@dataclass(frozen=True)
class Workload:
    """Settings of a run, and how many steps of it stand for one of the default model's."""

    settings: tuple[str, ...]
    share: float = 1.0


WORKLOADS = {
    "logistic": Workload(
        (*COMMON, "data.name=digits", "train.epochs=3", "checkpoint.every_steps=150", "log.every=50"),
    ),
    "convnet": Workload((*COMMON, *EVERYTHING, "model.name=convnet", "data.name=digits"), share=0.05),
    "transformer": Workload((*COMMON, *EVERYTHING, "model.name=transformer", "data.name=sums"), share=0.05),
}
