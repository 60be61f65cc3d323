"""Who may lean on whom: one table, held against the import statements of every file."""

import ast
import functools

import pytest

from tests.conftest import REPOSITORY

# Room -> the rooms that its files may import from, beside each other. A room is a folder, a script, or a
# module of utils that needs a row of its own; all other modules directly in utils are the room `utils`.
_TABLES = {"model.controls", "model.bars"}  # what a control is and what a bar is, for everyone
_MIDI = {"utils", "utils.config"} | _TABLES
_CORPUS = _MIDI | {"utils.midi"}
_SCRIPTS = _CORPUS | {"utils.corpus"}
_PLAYING = _SCRIPTS | {"data_aug", "model", "model.decoding", "utils.checkpoints", "utils.get_model"}
_TRAINING = _PLAYING | {"utils.playing"}
ALLOWED = {
    "model.bars": set(),
    "model.controls": set(),
    "model": _TABLES,
    "model.decoding": {"model"} | _TABLES,
    "utils": {"utils"} | _TABLES,
    "utils.config": {"utils"},
    "utils.checkpoints": {"utils", "utils.config"},  # a checkpoint holds its config,
    "utils.get_model": {
        "utils",
        "utils.config",
        "utils.checkpoints",
        "model",
        "model.decoding",  # which says whether its weights have changed
    },  # from which the model is built
    "utils.midi": _MIDI,
    "utils.corpus": _CORPUS,
    "preprocessing": _SCRIPTS,
    "data_aug": _SCRIPTS | {"model"},
    "utils.playing": _PLAYING,
    "utils.studio": _TRAINING,  # what training leans on, too: playing and all below it
    "utils.training": _TRAINING,
    "utils.evaluation": _TRAINING | {"utils.training"},
}
FOLDERS = [name for name in ALLOWED if (REPOSITORY / name.replace(".", "/")).is_dir()]
PATHS = [
    *REPOSITORY.glob("*.py"),
    *(path for top in ("model", "utils") for path in (REPOSITORY / top).rglob("*.py")),
]
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PATHS)
}


@functools.cache
def imports(name):
    """The modules of the repository that this one imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import; all others name the whole way"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys() or {node.module}
    return found & MODULES.keys()


def room_of(name):
    """A module's own row of the table where it has one, else the folder that it lies in."""
    return name if name in ALLOWED else name.rpartition(".")[0]


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_leans_only_on_those_below_it(room):
    mine = [name for name in MODULES if room_of(name) == room]
    assert mine
    wrong = {
        name: sorted(o for o in imports(name) if room_of(o) not in ALLOWED[room] | {room}) for name in mine
    }
    assert not {name: others for name, others in wrong.items() if others}


def test_every_folder_has_a_row():
    assert {room_of(name) for name in MODULES if "." in name} <= ALLOWED.keys()


def test_no_module_comes_back_to_itself():
    done = set()

    def walk(name, way):
        assert name not in way, f"import circle: {' -> '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for other in sorted(imports(name)):
                walk(other, [*way, name])
            done.add(name)

    for name in MODULES:
        walk(name, [])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_in_three_lines_what_belongs_there(folder):
    tree = ast.parse(MODULES[folder].read_text())
    assert len(tree.body) == 1, "imports, or more, beside the docstring"
    said = ast.get_docstring(tree)
    assert 3 <= len(said.splitlines()) <= 5 and "lean" in said.lower()
