"""Text of settings: YAML in, plain values and their lines out. What the values may be is checked in config.py.

The Loader differs from PyYAML's in what surprises people (dates, 1:30, 017, 1e-3) and in what could take for ever.
"""

import re

import yaml

MOST_VALUES = 20_000  # keys, values and sections; an alias counts as often as what it stands for
MOST_LEVELS = 20
MOST_CHARACTERS = 1_000_000


class Refused(yaml.MarkedYAMLError):
    """Valid YAML that no settings need: too many values, too many levels, a value inside itself, a tag."""


class Loader(yaml.SafeLoader):
    """A YAML loader that reads no dates, no tags, and numbers as other programs write them.

    2026-01-05, 1:30, 017 and 0x1F stay the text that was typed; 1e-3 is a number.

    Raises yaml.constructor.ConstructorError, with the line, for a key that is in a mapping twice, and Refused.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.levels = self.values = 0
        self.sizes: dict[str, int] = {}  # anchor -> how many values its node holds

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node, as PyYAML does. Raises Refused before a document grows beyond the limits above."""
        event = self.peek_event()
        before = self.values
        alias = isinstance(event, yaml.AliasEvent)
        if alias and event.anchor in self.anchors and event.anchor not in self.sizes:
            raise Refused(problem=f"'{event.anchor}' contains itself", problem_mark=event.start_mark)
        if getattr(event, "tag", None):
            raise Refused(problem=f"the tag {event.tag} means nothing here", problem_mark=event.start_mark)
        self.values += self.sizes.get(event.anchor, 1) if alias else 1
        self.levels += 1
        if self.levels > MOST_LEVELS:
            raise Refused(problem=f"nested more than {MOST_LEVELS} levels deep", problem_mark=event.start_mark)
        if self.values > MOST_VALUES:
            raise Refused(problem=f"more than {MOST_VALUES:,} values", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.levels -= 1
        if event.anchor and not alias:
            self.sizes[event.anchor] = self.values - before
        return node


def mapping_without_repeats(loader: Loader, node: yaml.MappingNode) -> dict:
    """Return the dict that a YAML mapping stands for. PyYAML itself would silently keep the last of two equal keys.

    Raises yaml.constructor.ConstructorError, with the line, when a key is in the mapping twice.
    """
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' occurs twice", key.start_mark)
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping_without_repeats)
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(NUMBERS[0], re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    NUMBERS[1],
    re.compile(
        r"([-+]?([0-9][0-9_]*\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> tuple[object, dict[tuple, int]]:
    """Read a YAML document. Returns its value, None for an empty one, and the line of each key, as `line_numbers` does.

    Raises yaml.YAMLError for text that is no YAML, for a key that is in a mapping twice, and, as Refused, for what is
    beyond the limits above or in a circle; and ValueError for a number with thousands of digits.
    """
    if len(text) > MOST_CHARACTERS:
        raise Refused(problem=f"{len(text):,} characters, settings have at most {MOST_CHARACTERS:,}")
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), line_numbers(node)
    finally:
        loader.dispose()


def line_numbers(node: yaml.Node | None, prefix: tuple = ()) -> dict[tuple, int]:
    """Return the line of each key in a YAML document: parts of the key, such as ("train", "seed"), -> line, counted
    from 1.

    An item of a list has its index, from 0, as its last part; keys inside an item are left out.

    - node: root of the document; None for an empty one, which gives {}.
    - prefix: parts that are put before those of every key.
    """
    found: dict[tuple, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found[(*prefix, key.value)] = key.start_mark.line + 1
            found.update(line_numbers(value, (*prefix, key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*prefix, index)] = value.start_mark.line + 1
    return found
