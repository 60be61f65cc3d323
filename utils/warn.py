"""Warnings that point at the user's line, however deep in the program they arise."""

import os
import sys
import warnings

import torch

_PROGRAM = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = tuple(os.path.join(_PROGRAM, name, "") for name in ("model", "utils"))
_TORCH = os.path.join(os.path.dirname(torch.__file__), "")  # whose decorators stand between ours


def warn(message):
    """A UserWarning at the line that called into the program; at its own line where that was the program."""
    frame, level = sys._getframe(1), 2
    while frame and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level if frame else 2)


def _is_inside(path):
    return path.startswith((*_FOLDERS, _TORCH)) or os.path.dirname(path) == _PROGRAM
