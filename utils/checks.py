"""Primitive checks of what users give. Each error carries the argument, the value and the rule."""

import contextlib
import difflib
import math
import operator
import os

import numpy as np

MOST_WHOLE = 2**31 - 1


def shorten(text, most=60):
    """The text at a length that leaves an error message readable."""
    return text if len(text) <= most else text[: most - 3] + "..."


def one_line(error, most=200):
    """What an error says, in one line of at most so many characters."""
    return shorten(" ".join(str(error).split()) or type(error).__name__, most)


def counted(number, what):
    """A number of things, such as "1 bar" or "2.5 bars"."""
    return f"{number} {what}" + "s" * (str(number) != "1")


def first_few(said, most, between=", "):
    """The first `most` of a list of texts, as one text that says how many more there are."""
    return between.join(said[:most]) + (f" and {len(said) - most} more" if len(said) > most else "")


class ArgumentError(ValueError):
    """A value that breaks a rule.

    argument: its name, or names from outside in: ("song.yaml", "section verse", "bars"). value: what was
    given, or None where the rule alone says it. rule: what is allowed. found: what to say of the value in
    place of its repr. The text is "argument: value; rule".
    """

    def __init__(self, argument, value, rule, found=None):
        self.argument = (argument,) if isinstance(argument, str) else tuple(map(str, argument))
        self.value, self.rule = value, rule
        self.found = shorten(repr(value)) if found is None else found
        super().__init__(": ".join([*self.argument, "; ".join(filter(None, (self.found, rule)))]))

    def named(self, *names):
        """The same error under other names."""
        return ArgumentError(names, self.value, self.rule, self.found)


@contextlib.contextmanager
def within(*names):
    """Put names before the argument of an error: the file, the section or the argument in which it stands."""
    try:
        yield
    except ArgumentError as error:
        raise error.named(*names, *error.argument) from None
    except ValueError as error:
        raise ArgumentError(names, None, str(error), found="") from None


def whole(value, name, least=1, most=MOST_WHOLE):
    """The value as an int. Raises ArgumentError for what is no whole number from `least` to `most`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        limit = f", {most} at most" if number is not None and number > most else ""
        raise ArgumentError(name, value, f"it must be a whole number, {least} or more{limit}")
    return number


def as_number(value):
    """The value as a float, NaN where it is none."""
    try:
        return math.nan if isinstance(value, (str, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def number(value, name, rule, least=0.0, most=math.inf, above=False):
    """The value as a finite float from `least`, or above it, to `most`. Raises ArgumentError."""
    found = as_number(value)
    if not (least <= found <= most and found < math.inf) or (above and found == least):
        raise ArgumentError(name, value, f"it must be {rule}")
    return found


def check_switch(value, name, choices="True or False"):
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(name, value, f"it must be {choices}")


def file_name(value, name):
    """The name of a file, a text or a Path. Raises ArgumentError."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ArgumentError(name, value, "it must be the name of a file")
    return value


def check_keys(given, keys, what="key"):
    """ValueError for the first of those given that is not among the keys, with the nearest of them."""
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the {what}s are {', '.join(keys)}"
            raise ValueError(f"unknown {what} {shorten(repr(key))}; {hint}")
