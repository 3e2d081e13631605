"""YAML in which text stays text: `${...}` is no reference, except for `${oc.env:NAME}`, a variable of the environment.

What is written reads back as the same text, also by OmegaConf itself: there a `${` that is meant as text is `\\${`.
"""

import codecs
import re
from typing import Any

import yaml

FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |\.[0-9_]+(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
REFERENCE = re.compile(r"(\\*)(\$\{)(oc\.env:)?")  # with the backslashes before it: an odd number makes it text
REMOVED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")


def _resolvers(kind: Any) -> Any:
    """The resolvers of PyYAML, with 1e-3 as a number, and without dates."""
    return {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in REMOVED]
        for first, pairs in kind.yaml_implicit_resolvers.items()
    }


class _Loading:
    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping; a key that is there twice is an error."""
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
                keys.add(key.value)
        parent: Any = super()
        return parent.construct_mapping(node, deep)


class _Loader(_Loading, yaml.SafeLoader):
    """Reads what half a character of another encoding was written as, which libyaml does not."""


class _FastLoader(_Loading, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml; it takes `?` in a list without quotes, as addresses have it."""


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper)


for _kind in (_Loader, _FastLoader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def read(content: bytes | str) -> Any:
    """The content of a YAML document, as it is written. Raises YAMLError, UnicodeError."""
    if isinstance(content, bytes) and not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content.decode("utf-8")  # its error says which byte
    try:
        return yaml.load(content, _FastLoader)
    except (yaml.YAMLError, UnicodeError) as error:
        try:
            return yaml.load(content, _Loader)
        except (yaml.YAMLError, UnicodeError):
            raise error from None


def write(content: dict[str, Any]) -> str:
    """A YAML document, ASCII where the text has no other characters."""
    return str(
        yaml.dump(_each_text(content, escaped), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    )


def escaped(text: str) -> str:
    """The text as OmegaConf takes it for text."""
    return REFERENCE.sub(lambda found: 2 * found[1] + "\\" + found[0][len(found[1]) :], text)


def only_environment(text: str) -> str:
    """The text as OmegaConf takes it, if only `${oc.env:...}` is a reference, and every other `${` is text."""

    def as_text(found: re.Match[str]) -> str:
        return found[0] if found[3] or len(found[1]) % 2 else "\\" + found[0]

    return REFERENCE.sub(as_text, text)


def _each_text(content: Any, change: Any) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {name: _each_text(value, change) for name, value in content.items()}
    return [_each_text(value, change) for value in content] if isinstance(content, list) else content
