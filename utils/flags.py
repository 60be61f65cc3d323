"""A parser of flags whose errors read as all others do: flag, value, rule, in one line."""

import argparse
import difflib
import re
import sys

from utils.checks import shorten

# What argparse says after the flag -> what the programs say.
_RULES = (
    (r"invalid choice: (.+) \(choose from (.+)\)", r"\1; it must be one of \2"),
    (r"expected one argument", "it needs a value"),
    (r"expected at least one argument", "it needs a value"),
    (r"ignored explicit argument (.+)", r"\1; it takes no value"),
)


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser without positional arguments. An error is one line and exit status 2; a flag that
    is not there is named with the nearest one; a value may begin with "-,", the bar that is left free."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register("type", int, _reads(int, "a whole number"))
        self.register("type", float, _reads(float, "a number"))

    def parse_args(self, args=None, namespace=None):
        args = self._joined(args)
        for word in args:
            self._check_flag(word.partition("=")[0])
        namespace, left_over = self.parse_known_args(args, namespace)
        if left_over:
            self.error(f"{shorten(left_over[0])}: no flag takes this word")
        return namespace

    def error(self, message):
        flag, between, rest = message.removeprefix("argument ").partition(": ")
        if message.startswith("the following arguments are required"):
            flag, between, rest = rest, ": ", "it is needed"
        elif message.startswith("ambiguous option"):
            flag, rest = rest.split(" could match ")
            rest = f"it may mean {rest}"
        for pattern, words in _RULES:
            rest = re.sub(f"^{pattern}$", words, rest)
        self.exit(2, f"{self.prog}: {flag}{between}{rest} (see --help)\n")

    def _joined(self, args):
        """The words, a flag and a value as "-,14", which argparse would take for a flag, in one word."""
        joined = []
        for word in sys.argv[1:] if args is None else map(str, args):
            if word.startswith("-,") and joined and joined[-1] in self._option_string_actions:
                word = f"{joined.pop()}={word}"
            joined.append(word)
        return joined

    def _check_flag(self, word):
        """An error with the nearest flag, where a word is written as a flag and none begins as it does."""
        flags = [*self._option_string_actions]
        if re.match("--?[a-zA-Z]", word) and not any(flag.startswith(word) for flag in flags):
            near = difflib.get_close_matches(f"--{word.lstrip('-').lower()}", flags, n=1)
            self.error(f"{shorten(word)}: no such flag{f'; did you mean {near[0]}?' if near else ''}")


def _reads(kind, what):
    """The type of a flag: text to a value, with the rule where it is none."""

    def read(text):
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{shorten(repr(text))}; it must be {what}") from None

    return read
