"""Every setting has a meaning and valid limits."""

from src import schema


def test_every_setting_has_a_meaning_and_a_default_within_its_limits() -> None:
    for name, field in schema.KEYS.items():
        meaning, limits = field.metadata["meaning"], field.metadata
        default = schema.value_of(schema.Config(), name)
        assert meaning.strip() == meaning != "", name
        assert "choices" not in limits or default in limits["choices"], name
        for number in default if isinstance(default, list) else [default]:
            assert "minimum" not in limits or number >= limits["minimum"], name
            assert "above" not in limits or number > limits["above"], name
        assert "length" not in limits or len(default) == limits["length"], name
