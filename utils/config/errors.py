"""Problems of a configuration in words: key, value, rule."""

import difflib
import json

from utils.checks import first_few, shorten

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a section",
    "model_type": "a section",
}
_RULES = {
    "greater_than_equal": "at least {ge} is expected",
    "greater_than": "more than {gt} is expected",
    "less_than_equal": "at most {le} is expected",
    "less_than": "less than {lt} is expected",
    "too_short": "a list of {min_length} is expected",
    "too_long": "a list of at most {max_length} is expected",
    "string_too_short": "text is expected",
    "finite_number": "a finite number is expected",
    "literal_error": "{expected} is expected",
    "string_pattern_mismatch": "auto, cpu, mps, cuda or cuda:N is expected",
    "value_error": "{error}",
}
_KINDS = {
    type(None): "empty",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a section",
}


_MOST = 20  # problems that a message lists, and unknown keys of which the nearest are looked for


class ConfigError(ValueError):
    """A configuration with its problems, a line each, in `problems`; the message has the first of them."""

    def __init__(self, source, problems):
        self.problems = [shorten(problem, 400) for problem in problems]
        several = f"{len(self.problems)} problems\n  " if len(self.problems) > 1 else ""
        super().__init__(f"{source}: {several}{first_few(self.problems, _MOST, chr(10) + '  ')}")


def explain(error, model):
    """A pydantic ValidationError of `model`, as one line per problem."""
    details = error.errors(include_url=False)
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    suggested = {loc: _nearest(loc, model) for loc in unknown[:_MOST]}
    # A typo is an unknown key and a missing one at once; one line says both.
    covered = {loc[:-1] + (name,) for loc, name in suggested.items()}
    lines = []
    for detail in details:
        loc, kind = detail["loc"], detail["type"]
        if kind == "extra_forbidden":
            hint = f"; did you mean {suggested[loc]}?" if suggested.get(loc) else ""
            lines.append(f"unknown key {_dotted(loc)}{hint}")
        elif kind == "missing":
            if loc not in covered:
                lines.append(f"missing key {_dotted(loc)}")
        else:
            lines.append(f"{_dotted(loc)}: {_rule(detail)}" if loc else _rule(detail))
    return lines


def _rule(detail):
    kind, value = detail["type"], detail["input"]
    shown = shorten(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))
    found = _KINDS.get(type(value), f"a {type(value).__name__}")
    if kind == "invalid_key":
        return f"the key is {found}, text is expected"
    if kind in _WANTED:
        return f"{shown} is {found}, {_WANTED[kind]} is expected"
    limits = {name: f"{x:.16g}" if isinstance(x, float) else x for name, x in detail.get("ctx", {}).items()}
    return f"{shown}, but {_RULES[kind].format(**limits) if kind in _RULES else detail['msg']}"


def _dotted(loc):
    return ".".join(shorten(str(part)) for part in loc)


def _nearest(loc, model):
    """The key that an unknown one was meant to be: a neighbour, the same name elsewhere, or ""."""
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    names = {name.lower(): name for name in model.model_fields}
    for close in difflib.get_close_matches(str(loc[-1]).lower(), names, n=1):
        return names[close]
    return " or ".join(_dotted(loc[:-1] + path) for path in _paths(model) if path[-1] == loc[-1])


def _paths(model):
    for name, field in model.model_fields.items():
        yield (name,)
        if hasattr(field.annotation, "model_fields"):
            yield from ((name, *path) for path in _paths(field.annotation))
