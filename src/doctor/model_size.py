"""How many parameters the job's model has: what the exchange and the checkpoints are sized by."""

from src import config, models
from src.data import dataset
from src.schema import Config
from src.world.world import World


def parameters(settings: Config) -> int:
    """The number of parameters. Raises UserError for a model's file that breaks the contract."""
    data = settings.data
    if dataset.missing(data):
        spec = dataset.kind_of(data).assumed(data)
    else:
        spec = dataset.load(data, World(), lambda _: None).spec
    model = models.load(config.model_path(settings.model), settings.model.settings)
    return sum(parameter.numel() for parameter in model.build(spec, settings.train.seed).parameters())
