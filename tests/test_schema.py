"""Settings: their fingerprint, which tells results apart."""

from src import config, schema


def test_the_fingerprint_tells_results_apart_and_nothing_else() -> None:
    base = schema.fingerprint(config.parse([]))
    for same in ("train.epochs=3", "log.every=5", "train.device=cpu", "track.notes=x", "run.root=r", "train.shards=4"):
        assert schema.fingerprint(config.parse([same])) == base, same
    for other in ("optim.lr=0.1", "train.seed=1", "data.name=digits", "train.sync=bitwise", "optim.schedule=linear"):
        assert schema.fingerprint(config.parse([other])) != base, other
    cosine = ["optim.schedule=cosine"]
    assert schema.fingerprint(config.parse(cosine)) != schema.fingerprint(config.parse([*cosine, "train.epochs=3"]))
