"""The contract between the job and a model's file, and how a file that keeps it is loaded.

One file is a model. The job asks it for these module-level names (docs/your-model.md has them as a table):

    Settings            optional dataclass: its fields are the keys `model.*`
    build               (settings, data) -> nn.Module; torch is seeded
    loss                (module, inputs, targets) -> (sum over the items, number of items)
    gradients           optional: (module, inputs, targets) -> (sum, items, the sum's gradient by parameter name)
    measure             optional: (module, inputs, targets) -> dict of sums over the samples
    METRICS, BEST       optional: how the sums are divided, and which metric decides which weights are the best
    augment             optional: (inputs, targets, draws) -> inputs, or (inputs, targets); training only
    parameter_groups    optional: (module, settings) -> a list of parameter groups as torch.optim takes them
    probabilities       optional: (module, inputs) -> (n, classes); the default is the softmax of module(inputs)
    enough              optional: (metrics by name) -> whether the training ends after this evaluation
    prepare             optional: (thing, data) -> inputs (1, *shape), from the bytes of a picture or a text

Inputs reach the file as they are stored (bytes): scaling is the model's first line.
"""

from src.models.contract import COUNT, Data, Model
from src.models.loading import OPTIONAL, REQUIRED, load

__all__ = ["COUNT", "OPTIONAL", "REQUIRED", "Data", "Model", "load"]
