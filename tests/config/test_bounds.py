"""What a configuration may hold at most: it is refused at once, in a short message."""

import os
import re

import pytest

from utils.config.schema import ConfigError, load_config
from utils.config.yaml_file import read_file

BOMB = (
    "[&a [x, x, x, x], &b [*a, *a, *a, *a], &c [*b, *b, *b, *b], &d [*c, *c, *c, *c], &e [*d, *d, *d, *d], "
    + ("&f [*e, *e, *e, *e], &g [*f, *f, *f, *f], &h [*g, *g, *g, *g], &i [*h, *h, *h, *h]]")
)


@pytest.mark.parametrize(
    "override, complaint",
    [
        (f"Training.seed={2**63}", f"Training.seed: {2**63}, but at most {2**63 - 1} is expected"),
        (
            "Model.Decoder.n_layer=1000000000",
            "Model.Decoder.n_layer: 1000000000, but at most 256 is expected",
        ),
        ("Model.Encoder.d_ff=1000000000", "Model.Encoder.d_ff: 1000000000, but at most 65536 is expected"),
        (
            f"Data.clip_bar={BOMB}",
            "the value can't be read as YAML: it has more than 100000 values, those of an alias counted each "
            "time",
        ),
    ],
)
def test_a_value_of_any_size_is_refused(repository, override, complaint):
    with pytest.raises(ConfigError) as caught:
        load_config(repository / "config.yaml", [override])
    (problem,) = caught.value.problems
    assert problem.endswith(complaint) and len(problem) < 300


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"&a [*a]", "can't be read as YAML: it has more than 100000 values"),
        (b"x: &a {b: *a}", "can't be read as YAML: it has more than 100000 values"),
        (BOMB.encode(), "can't be read as YAML: it has more than 100000 values"),
        (b"#" * 300_000, "is larger than 256 KiB, the most that is read"),
    ],
)
def test_a_file_of_any_size_is_refused(tmp_path, content, complaint):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"bad.yaml: {complaint}")):
        load_config(tmp_path / "bad.yaml")


def test_an_alias_is_read(tmp_path):
    (tmp_path / "kit.yaml").write_text("a: &a [1, 2]\nb: {c: *a, d: *a}")
    assert read_file(tmp_path / "kit.yaml") == ({"a": [1, 2], "b": {"c": [1, 2], "d": [1, 2]}}, [])


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / "config.yaml") if kind == "pipe" else os.mkdir(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="config.yaml: is no file, but a folder, pipe or device"):
        load_config(tmp_path / "config.yaml")


def test_a_message_stays_short(repository, tmp_path):
    """However many keys are wrong, and however long their names and values are."""
    keys = "".join(f"  key{i}: {i}\n" for i in range(3_000)) + f"  {'k' * 1000}: {'v' * 1000}\n"
    (tmp_path / "many.yaml").write_text((repository / "config.yaml").read_text() + keys * 2)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "many.yaml", [f"Training.seed={'9' * 4000}", f"{'k' * 1000}=1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[-1].endswith(" more") and max(map(len, lines)) <= 500
    assert len(caught.value.problems) > 6_000
