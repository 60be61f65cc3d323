"""YAML as config.yaml needs it: numbers as people write them, no key twice, overrides from the shell."""

import re

import yaml

from utils.checks import one_line, shorten
from utils.config.errors import ConfigError
from utils.files import file_bytes

MOST_BYTES = 1 << 18  # of a file; a song of a thousand sections has a tenth of it
MOST_VALUES = 100_000  # in a file, those of an alias each time that it stands there


class _Loader(yaml.SafeLoader):
    """Reads plain scalars by the rules of YAML 1.2; by PyYAML's own, those of YAML 1.1, 1e-4 is text, 010 is
    eight, 1:30 is ninety and no is false."""

    yaml_implicit_resolvers = {}


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def read_file(path):
    """(values, problems) of a YAML file; ConfigError where it can't be read as YAML at all."""
    try:
        data = file_bytes(path, MOST_BYTES)
    except OSError as error:
        raise ConfigError(path, [f"can't be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError(path, [f"is {error}"]) from None
    return read_text(data, path)


def read_text(data, name):
    """(values, problems) of the bytes of a YAML file; `name` stands for it in the ConfigError."""
    if len(data) > MOST_BYTES:
        raise ConfigError(name, [f"is larger than {MOST_BYTES >> 10} KiB, the most that is read"])
    try:
        return _parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(name, ["is not UTF-8 text"]) from None
    except _YAML_ERRORS as error:
        raise ConfigError(name, [f"can't be read as YAML: {one_line(error)}"]) from None


def apply_override(values, override):
    """Sets one "Section.key=value" in the nested dict `values`; returns the problems found."""
    name, equals, text = override.partition("=")
    name, source = name.strip(), f"--set {shorten(override)}"
    *sections, key = name.split(".")
    if not equals or not key or not all(sections):
        return [f"{source}: Section.key=value is expected"]
    try:
        value, problems = _parse(text, f"{name}.")
    except _YAML_ERRORS as error:
        return [f"{source}: the value can't be read as YAML: {one_line(error)}"]
    place = values
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        return [f"{source}: {'.'.join(sections) or 'the file'} is no section"]
    place[key] = value
    return [f"{source}: {problem}" for problem in problems]


# ValueError and RecursionError: an integer of thousands of digits, brackets a thousand deep.
_YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)


def _parse(text, prefix=""):
    """(values, problems) of YAML text; the problems are the keys given twice, named with `prefix`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        if _count(node, {}) > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values, those of an alias counted each time")
        return loader.construct_document(node), list(_duplicates(node, prefix, set()))
    finally:
        loader.dispose()


def _count(node, counted):
    """How many values a node holds, itself among them. counted: those of the nodes seen before."""
    if id(node) not in counted:
        counted[id(node)] = MOST_VALUES  # of a node that stands within itself: without end
        held = [] if isinstance(node, yaml.ScalarNode) else node.value
        nodes = [part for pair in held for part in pair] if isinstance(node, yaml.MappingNode) else held
        counted[id(node)] = 1 + sum(_count(part, counted) for part in nodes)
    return counted[id(node)]


def _duplicates(node, prefix, seen):
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:  # seen: an alias
        return
    seen.add(id(node))
    first_line = {}
    for key, value in node.value:
        name, line = f"{prefix}{shorten(str(key.value))}", key.start_mark.line + 1
        if name in first_line:
            yield f"key {name} is given twice, in lines {first_line[name]} and {line}"
        first_line.setdefault(name, line)
        yield from _duplicates(value, f"{name}.", seen)
