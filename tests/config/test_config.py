"""The configuration: what it accepts, how it complains, and that every key is read."""

import re
from functools import reduce

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model.controls import CONTROLS
from utils.config.errors import shorten
from utils.config.schema import Config, ConfigError, config_from_dict, load_config


def problems(repository, override):
    """What is wrong with an override, without the text that says which override it was."""
    with pytest.raises(ConfigError) as caught:
        load_config(repository / "config.yaml", [override])
    return [line.removeprefix(f"--set {shorten(override)}: ") for line in caught.value.problems]


def leaves(section, prefix=()):
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name)


def sections(model):
    yield model
    for field in model.model_fields.values():
        if hasattr(field.annotation, "model_fields"):
            yield from sections(field.annotation)


# ---- What is accepted


def test_file_is_complete_and_survives_a_checkpoint(config):
    plain = config.to_dict()
    assert config_from_dict(plain) == config
    assert config_from_dict(plain).to_dict() == plain
    assert {type(value) for value in walk(plain)} <= {dict, list, str, int, float, bool, type(None)}


def walk(value):
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def test_values_are_those_of_the_file(config, repository):
    as_written = yaml.safe_load((repository / "config.yaml").read_text())
    assert config.to_dict() == as_written
    assert config.Data.normalize_factor is None


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("1.E+1", 10.0),
        (".5", 0.5),
        ("2", 2.0),
        ("+1e-4", 1e-4),
        ("010", 10.0),
    ],
)
def test_numbers_as_people_write_them(repository, text, value):
    found = load_config(
        repository / "config.yaml", [f"Training.learning_rate={text}", "Training.minimum_learning_rate=0"]
    ).Training.learning_rate
    assert found == value and type(found) is float


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_any_printed_float_is_read_back(repository, number):
    found = load_config(repository / "config.yaml", [f"Training.weight_decay={number!r}"])
    assert found.Training.weight_decay == number


@pytest.mark.parametrize("text", ["2024-01-01", "1:30", "no", "cuda:1", "1_000"])
def test_text_stays_text(repository, text):
    assert load_config(repository / "config.yaml", [f"Data.corpus={text}"]).Data.corpus == text


def test_numbers_in_the_file_follow_the_same_rules(repository, tmp_path):
    text = (repository / "config.yaml").read_text().replace("learning_rate: 1.0e-3 ", "learning_rate: 1e-3 ")
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml").Training.learning_rate == 1e-3


def test_overrides_take_lists_sections_and_text(repository):
    found = load_config(
        repository / "config.yaml",
        [
            "Training.betas=[0.8, 0.9]",
            "Data.splits={validation: 0.2, test: 0}",
            "Training.device=cuda:1",
            "Data.normalize_factor={density: [0.1, 0.05], intensity: [1, 2]}",
            "Training.seed=1",
            "Training.seed=2",
        ],
    )
    assert (
        found.Training.betas == [0.8, 0.9]
        and found.Data.splits.test == 0
        and found.Training.device == "cuda:1"
    )
    assert found.Data.normalize_factor == {"density": [0.1, 0.05], "intensity": [1.0, 2.0]}
    assert found.Training.seed == 2


def test_statistics_can_be_filled_in_but_not_wrongly(config):
    copy = config.model_copy(deep=True)
    copy.Data.normalize_factor = {"density": [0.1, 0.05], "intensity": [0.5, 0.1]}
    assert config_from_dict(copy.to_dict()) == copy != config
    with pytest.raises(ValueError):
        copy.Data.normalize_factor = {"density": [0.1, 0.0], "intensity": [0.5, 0.1]}


# ---- How it complains


@pytest.mark.parametrize(
    "override, complaint",
    [
        ("Model.Encoder.n_layr=3", "unknown key Model.Encoder.n_layr; did you mean n_layer?"),
        ("training.steps=3", "unknown key training; did you mean Training?"),
        ("TRAINING.steps=3", "unknown key TRAINING; did you mean Training?"),
        ("steps=3", "unknown key steps; did you mean Training.steps?"),
        ("n_head=3", "unknown key n_head; did you mean Model.Encoder.n_head or Model.Decoder.n_head?"),
        ("Data.xyzzy=3", "unknown key Data.xyzzy"),
        ("Training.steps", "Section.key=value is expected"),
        ("=3", "Section.key=value is expected"),
        ("Training..steps=3", "Section.key=value is expected"),
        ("Training.steps.more=3", "Training.steps is no section"),
        (
            "Data.splits={test: 0, validation: 0, test: 0.1}",
            "key Data.splits.test is given twice, in lines 1 and 1",
        ),
        ("Data.splits={test: 0}", "missing key Data.splits.validation"),
        ("Data.splits=3", "Data.splits: 3 is a whole number, a section is expected"),
        ("Training.learning_rate=3e-4x", "Training.learning_rate: '3e-4x' is text, a number is expected"),
        ("Training.learning_rate=nan", "Training.learning_rate: 'nan' is text, a number is expected"),
        ("Training.weight_decay=1e999", "Training.weight_decay: inf, but a finite number is expected"),
        ("Training.weight_decay=true", "Training.weight_decay: true is true or false, a number is expected"),
        ("Training.steps=true", "Training.steps: true is true or false, a whole number is expected"),
        ("Training.steps=1e2", "Training.steps: 100.0 is a number, a whole number is expected"),
        ("Training.steps=0", "Training.steps: 0, but at least 1 is expected"),
        ("Training.run_dir=", "Training.run_dir: null is empty, text is expected"),
        ("Training.run_dir=''", "Training.run_dir: '', but text is expected"),
        ("Training.betas=0.9", "Training.betas: 0.9 is a number, a list is expected"),
        ("Training.betas=[0.9]", "Training.betas: [0.9], but a list of 2 is expected"),
        ("Training.betas=[0.9, 1]", "Training.betas.1: 1, but less than 1 is expected"),
        (
            "Training.precision=fp16",
            "Training.precision: 'fp16', but 'float32', 'bfloat16' or 'auto' is expected",
        ),
        (
            "Training.device=cuda:x",
            "Training.device: 'cuda:x', but auto, cpu, mps, cuda or cuda:N is expected",
        ),
        (
            "Training.minimum_learning_rate=1",
            "Training.minimum_learning_rate: 1, but it must be at most learning_rate (0.001)",
        ),
        (
            "Model.Encoder={d_model: 128, n_layer: 1, n_head: 3, d_ff: 8, dropout: 0}",
            "Model.Encoder.n_head: 3, but d_model (128) / n_head must be a whole, even number "
            "(the rotary embedding turns pairs)",
        ),
        (
            "Model.Decoder.d_model=18",
            "Model.Decoder.n_head: 6, but d_model (18) / n_head must be a whole, even number "
            "(the rotary embedding turns pairs)",
        ),
        ("Model.Decoder.dropout=1", "Model.Decoder.dropout: 1, but less than 1 is expected"),
        ("Data.augmentation.swing=1.5", "Data.augmentation.swing: 1.5, but at most 1 is expected"),
        ("Data.augmentation.swing_max=0.6", "Data.augmentation.swing_max: 0.6, but at most 0.5 is expected"),
        ("Data.augmentation.swing=-0.1", "Data.augmentation.swing: -0.1, but at least 0 is expected"),
        (
            "Data.augmentation.tightness_range=[2, 1]",
            "Data.augmentation.tightness_range: [2, 1], but the lower end must come first",
        ),
        (
            "Data.down_sample_tpq=6",
            "Data.down_sample_tpq: 6, but only 4 works: rhythms are read and MIDI files written on a grid of "
            "sixteenths",
        ),
        (
            "Data.augmentation.half_time=0.98",
            "Data.augmentation.half_time: 0.98, but the sum with double_time must be at most 1, "
            "as a window gets one of the two",
        ),
        (
            "Data.augmentation.flat_velocity_range=[0.5, 1.5]",
            "Data.augmentation.flat_velocity_range: [0.5, 1.5], but velocities are at most 1",
        ),
        (
            "Data.splits.test=0.9",
            "Data.splits.test: 0.9, but the sum with validation must be less than 1, "
            "or nothing is left for training",
        ),
        (
            "Data.rhythm_source={loudest: 0, kick_snare: 0, hats: 0, voice_subset: 0}",
            "Data.rhythm_source: {'loudest': 0, 'kick_snare': 0, 'hats': 0, 'voice_subset'..., "
            "but one weight at least must be above 0",
        ),
        (
            "Data.normalize_factor={density: [0, 1]}",
            "Data.normalize_factor: {'density': [0, 1]}, but density and "
            "intensity, each [mean, deviation] with a deviation above 0, are expected",
        ),
    ],
)
def test_complaint_names_key_value_and_rule(repository, override, complaint):
    assert problems(repository, override) == [complaint]


@pytest.mark.parametrize("value", ["{", "*x", "{[1]: 2}", "[" * 3000, "9" * 5000, "a: b: c"])
def test_override_that_is_no_yaml(repository, value):
    (problem,) = problems(repository, f"Training.steps={value}")
    assert problem.startswith("the value can't be read as YAML") and len(problem) < 300


def test_tasks_need_a_weight_too(repository):
    (problem,) = problems(
        repository, "Data.task={tap: 0, humanise: 0, add_voice: 0, infill: 0, continue: 0, keep_rhythm: 1}"
    )
    assert problem.endswith("but one weight at least must be above 0")


def test_all_problems_at_once(repository, tmp_path):
    text = (repository / "config.yaml").read_text()
    for good, bad in (
        ("  clip_bar: 4 ", "  clip_baar: 4 "),
        ("  seed: 0\n", ""),
        ("  keep_last: 2", "  keep_last: -2"),
        ("    d_latent: 32 ", "    d_latent: 32\n    d_latent: 64 "),
    ):
        assert good in text
        text = text.replace(good, bad)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_config(path, ["Training.steps=many", "Training.log_every"])
    line = 1 + text[: text.index("d_latent: 32")].count("\n")
    assert str(caught.value).splitlines() == [
        f"{path}: 6 problems",
        f"  key Model.Intermediate.d_latent is given twice, in lines {line} and {line + 1}",
        "  --set Training.log_every: Section.key=value is expected",
        "  unknown key Data.clip_baar; did you mean clip_bar?",
        "  missing key Training.seed",
        "  Training.steps: 'many' is text, a whole number is expected",
        "  Training.keep_last: -2, but at least 1 is expected",
    ]


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "null is empty, a section is expected"),
        (b"- 1", "[1] is a list, a section is expected"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a: b: c", "can't be read as YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "can't be read as YAML"),
        (b"Data: 1\n---\nData: 2", "can't be read as YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path, content, complaint):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {complaint}")):
        load_config(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml: can't be read: No such file"):
        load_config(tmp_path / "nowhere.yaml")


# keys that configs and checkpoints may lack, which were made before there were such: what they mean there
ADDED = {
    "Data.rhythm_source.hands": 0.0,
    "Data.rhythm_source.part": 0.0,
    "Data.drop.rhythm_is": 0.0,
    "Data.drop.pads": 1.0,
    "Model.rhythm_is": False,
    "Model.pads": False,
    "Data.augmentation.repeat_bar": 0.0,
    "Data.augmentation.plain": 0.0,
    "Data.augmentation.plain_range": [0.25, 0.5],
    "Model.Decoder.history": [],
    "Model.Decoder.condition_params.steady": False,
    "Model.Decoder.condition_params.remaining_steady": False,
    "Model.Decoder.condition_params.phrase": False,
    "Data.drop.phrase": 0.5,
    "Data.part": {"beats": 0.0, "plain": 0.0, "repeat_bar": 0.0},
    "Data.drop.steady": 1.0,
    "Data.augmentation.meter": 0.0,
    "Model.longest_bar": 16,
}


def test_every_key_is_needed(config):
    """A checkpoint's config never falls back on defaults that may have changed since; keys that came later
    have the meaning of a program without them."""
    for *parents, name in leaves(config.to_dict()):
        plain = config.to_dict()
        section = reduce(dict.__getitem__, parents, plain)
        del section[name]
        if (key := ".".join([*parents, name])) in ADDED:
            given = reduce(dict.__getitem__, key.split("."), config_from_dict(plain, "mine.pt").to_dict())
            assert given == ADDED[key] and name not in section
            continue
        with pytest.raises(ConfigError) as caught:
            config_from_dict(plain, "mine.pt")
        assert str(caught.value) == f"mine.pt: missing key {'.'.join([*parents, name])}"


def keys_with_defaults(model, above=""):
    for name, field in model.model_fields.items():
        if not field.is_required():
            yield above + name
        if hasattr(field.annotation, "model_fields"):
            yield from keys_with_defaults(field.annotation, f"{above}{name}.")


def test_keys_that_came_later_may_be_missing(config):
    """Then they have the values of ADDED; what is given stays. No other key has a default."""
    assert {*keys_with_defaults(Config)} == ADDED.keys()
    plain, wanted = config.to_dict(), config.to_dict()
    for key, value in ADDED.items():
        *parents, name = key.split(".")
        section, filled = (reduce(dict.__getitem__, parents, whole) for whole in (plain, wanted))
        del section[name]
        filled[name] = value
    assert config_from_dict(plain).to_dict() == wanted
    assert not ADDED.keys() & {".".join(path) for path in leaves(plain)}  # it is not changed
    plain["Model"]["rhythm_is"] = True
    assert config_from_dict(plain).Model.rhythm_is is True


def test_no_key_takes_text_or_truth_for_a_number(config):
    """Whatever key it is: strict types everywhere."""
    for *parents, name in leaves(config.to_dict()):
        plain = config.to_dict()
        section = plain
        for parent in parents:
            section = section[parent]
        was = section[name]
        for wrong in (
            1 if isinstance(was, str) else "1",
            1 if isinstance(was, bool) else True,
            {"a": object()},
        ):
            section[name] = wrong
            with pytest.raises(ConfigError, match=f"{'.'.join([*parents, name])}(.a)?: "):
                config_from_dict(plain)


def test_sections_refuse_what_they_do_not_know():
    for section in sections(Config):
        assert section.model_config["extra"] == "forbid" and section.model_config["strict"]


def test_every_control_can_be_dropped(config):
    assert CONTROLS.keys() <= config.to_dict()["Data"]["drop"].keys()


# ---- Every key is read


def test_every_key_is_read_somewhere(config, repository):
    """Outside the configuration itself and the tests, as an attribute.

    rhythm_source, task, loss_weight and drop are tables, looked up by name, and the model is built from
    plain dicts, some handed on whole as arguments: there the name alone counts as well.
    """
    sources = [
        path
        for pattern in ("*.py", "model/**/*.py", "utils/**/*.py")
        for path in repository.glob(pattern)
        if path.parent.name != "config"
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unread = []
    for path in leaves(config.to_dict()):
        pattern = rf"\.{path[-1]}\b"
        if path[0] == "Model" or path[1] in {"rhythm_source", "task", "loss_weight", "drop"}:
            pattern += rf"|\b{path[-1]}(_nats)?\b"
        if not re.search(pattern, code):
            unread.append(".".join(path))
    assert unread == []
