"""YAML as config.yaml needs it: numbers as people write them, no key twice, overrides from the shell."""

import os
import re

import yaml

from utils.config.errors import ConfigError, shorten


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
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(repr(path), ["is no name of a file"])
    try:
        with open(path, "rb") as file:
            return read_text(file.read(), path)
    except OSError as error:
        raise ConfigError(path, [f"can't be read: {error.strerror}"]) from None


def read_text(data, name):
    """(values, problems) of the bytes of a YAML file; `name` stands for it in the ConfigError."""
    try:
        return _parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(name, ["is not UTF-8 text"]) from None
    except _YAML_ERRORS as error:
        raise ConfigError(name, [f"is not valid YAML: {_one_line(error)}"]) from None


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
        return [f"{source}: the value is not valid YAML: {_one_line(error)}"]
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
        return loader.construct_document(node), list(_duplicates(node, prefix, set()))
    finally:
        loader.dispose()


def _duplicates(node, prefix, seen):
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:  # seen: an alias
        return
    seen.add(id(node))
    first_line = {}
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if name in first_line:
            yield f"key {name} is given twice, in lines {first_line[name]} and {line}"
        first_line.setdefault(name, line)
        yield from _duplicates(value, f"{name}.", seen)


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
