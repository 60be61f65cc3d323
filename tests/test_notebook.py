"""The notebook in examples/ runs from top to bottom, shows what it should, and uses every control."""

import ast
import copy
import inspect
import os
import re
import shutil

import nbformat
import pytest

import inference_bar_control as inference
from examples.run_notebook import NOTEBOOK, PLAYER, run
from tests.conftest import REPOSITORY
from utils.playing.jobs import infill, vary

MUCH = 600_000  # bytes that a visitor is to wait for


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def shown(stored, tmp_path_factory):
    """The notebook after a run in its own folder, of a clone whose output/ is another."""
    clone = tmp_path_factory.mktemp("clone")
    for path in REPOSITORY.iterdir():
        if path.name not in (".git", "examples", "output"):
            (clone / path.name).symlink_to(path)
    shutil.copytree(REPOSITORY / "examples", clone / "examples")
    notebook = copy.deepcopy(stored)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(clone / "ipython"))  # nobody's settings
        run(notebook, clone / "examples")
    assert {path.suffix for path in (clone / "output").iterdir()} >= {".mid", ".png", ".json"}
    return notebook


def outputs(cell):
    """What a cell shows: kind -> text, a picture's or player's bytes left out."""
    found = {}
    for output in cell.get("outputs", ()):
        data = output.get("data") or {f"text, {output.get('name')}": output.get("text", "")}
        found |= {
            kind: re.sub(r"base64,[\w+/=]+", "base64,", PLAYER.sub("", text)) for kind, text in data.items()
        }
    return found


def wording(text):
    """The words of the first line, without the numbers, which another machine may round to other drums."""
    return re.findall(r"[a-z]{2,}", text.partition("\n")[0])


def test_every_cell_shows_what_is_stored(stored, shown):
    cells = [(was, now) for was, now in zip(stored.cells, shown.cells) if was.cell_type == "code"]
    assert len(cells) > 9
    for was, now in cells:
        before, after = outputs(was), outputs(now)
        assert before.keys() == after.keys(), now.source
        for kind in before:
            assert wording(before[kind]) == wording(after[kind]), now.source


def test_takes_are_shown_with_picture_table_and_receipt(shown):
    pages = [text for cell in shown.cells for kind, text in outputs(cell).items() if kind == "text/html"]
    assert len(pages) >= 4
    for page in pages:
        assert re.search(r'<img [^>]*src="data:image/png;base64,"', page)
        table = re.search("<pre>(.*?)</pre>", page, re.S)[1]
        assert re.search(r"asked got.*\n  1 .*taps answered: \d+ of \d+.*seed \d+, checkpoint", table, re.S)


def test_every_control_is_used(stored):
    code = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "code")
    tree = ast.walk(ast.parse(code))
    used = set()
    for node in tree:
        if isinstance(node, ast.Call):
            used |= {keyword.arg for keyword in node.keywords}
        elif isinstance(node, ast.Dict):  # wishes, given as **wishes
            used |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Name):
            used.add(node.id)
    doors = (
        inference.generate,
        inference.play,
        inference.process_midi,
        inference.convert_to_midi,
        infill,
        vary,
    )
    kinds = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = {
        "path",
        "rhythm",
        "drums",
        "onset",
        "vel",
        "time",
        "strength",
        "down_sample_tpq",
        "kit",
        "source",
    }
    first |= {f"piano_roll_{part}" for part in ("onset", "vel", "timeoffset")}
    first |= {"voices_anew", "bars_anew", "second"}  # of a job, which is shown as a function
    first |= {"meter", "pickup", "rhythm_is", "steady"}  # see docs/arguments.md
    controls = {
        name
        for door in doors
        for name, value in inspect.signature(door).parameters.items()
        if value.kind in kinds
    }
    names = set(inference.__all__) - {"np", "mapping", "mapping_table"}
    assert (controls - first | names) - used == set()


def test_stored_outputs_are_small_and_of_one_run(stored):
    assert os.path.getsize(NOTEBOOK) < MUCH
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any("metadata" in cell and cell.metadata for cell in stored.cells) and "<audio" not in str(
        stored
    )
