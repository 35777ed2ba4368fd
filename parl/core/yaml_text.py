"""Reads YAML, of which JSON is a subset, safely from untrusted text.

Numbers are those of JSON, plus 3e-4 and 1_000. 017 and 1:30 are not numbers, since YAML 1.1 would
read them as octal and sexagesimal. Aliases are refused.
"""

import re
from typing import Any, ClassVar

import yaml
from yaml.composer import ComposerError

from parl.core.errors import ConfigError

OF_TAGS = (ValueError, LookupError, TypeError, AttributeError)  # such as !!int many, or !!bool x
INT, FLOAT, TIME = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


class Loader(yaml.SafeLoader):
    """YAML without aliases and with the numbers described above."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in (INT, FLOAT, TIME)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            where = self.peek_event().start_mark
            raise ComposerError(None, None, "aliases are not allowed", where)
        return super().compose_node(parent, index)


NUMBER_STARTS = list("-+.0123456789")
Loader.add_implicit_resolver(INT, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), NUMBER_STARTS)
Loader.add_implicit_resolver(
    FLOAT,
    re.compile(
        r"[-+]?((\.[0-9]+|[0-9][0-9_]*\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
    NUMBER_STARTS,
)


def parse_yaml(text: str) -> Any:
    """The parsed value of YAML text. Raises ConfigError if it is invalid."""
    try:
        return yaml.load(text, Loader)  # a safe loader
    except RecursionError:
        raise ConfigError("it is nested too deeply.") from None
    except (yaml.YAMLError, *OF_TAGS) as error:
        raise ConfigError(f"{' '.join(str(error).split())[:300].rstrip('.')}.") from error
