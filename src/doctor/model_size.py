"""How many parameters the job's model has: what the exchange and the checkpoints are sized by."""

from src import config, models
from src.data import dataset, splits
from src.data.splits import Spec
from src.schema import Config
from src.world.world import World

MNIST = Spec((28, 28), splits.BYTE, 10)  # assumed where the data set is not here yet


def parameters(settings: Config) -> int:
    """The number of parameters. Raises UserError for a model's file that breaks the contract."""
    data = settings.data
    spec = MNIST if dataset.missing(data) else dataset.load(data, World(), lambda _: None).spec
    model = models.load(config.model_path(settings.model), settings.model.settings)
    return sum(parameter.numel() for parameter in model.build(spec, settings.train.seed).parameters())
