"""The configuration: what config.yaml may say, and one loader for every script.

config.yaml explains each key; the classes below mirror it key by key and hold the types and limits.
Whole numbers pass where a number is expected, text and truth values never do. Every key must be there,
so that the config in a checkpoint rebuilds the same model anywhere. A key with a default is one that older
configs and checkpoints lack: the default is what they mean.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from utils.checks import MOST_WHOLE
from utils.config.errors import ConfigError, explain
from utils.config.yaml_file import apply_override, read_file


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_assignment=True)


def _of_one_kind(name, kind, *keys, **later):
    """A section whose keys are all of one kind; later: those with a default. A class body could not have the
    key `continue`."""
    defaults = dict.fromkeys(keys, ...) | later
    return create_model(name, __base__=Section, **{key: (kind, value) for key, value in defaults.items()})


# ---- Rules beyond a type and its limits. info.data: the keys before it in its section.


def _ascending(pair):
    if pair[0] > pair[1]:
        raise ValueError("the lower end must come first")
    return pair


def _rising(bars):
    if bars != sorted(set(bars)):
        raise ValueError("how many bars ago must be named once each, the fewest first")
    return bars


def _velocities(pair):
    if pair[1] > 1:
        raise ValueError("velocities are at most 1")
    return pair


def _sixteenths(steps):
    if steps != 4:
        raise ValueError("only 4 works: rhythms are read and MIDI files written on a grid of sixteenths")
    return steps


def _leaves_some_for_training(test, info):
    if test + info.data.get("validation", 0) >= 1:
        raise ValueError("the sum with validation must be less than 1, or nothing is left for training")
    return test


def _no_window_gets_both(half_time, info):
    if half_time + info.data.get("double_time", 0) > 1:
        raise ValueError("the sum with double_time must be at most 1, as a window gets one of the two")
    return half_time


def _half_a_window_is_whole_bars(halves, info):
    bars = info.data.get("clip_bar")
    if halves and bars and bars % 2:
        raise ValueError(f"windows of clip_bar ({bars}) bars have no halves of whole bars; it must be 0")
    return halves


def _mean_and_deviation(factor):
    if factor is None:
        return None
    if set(factor) != {"density", "intensity"} or any(len(v) != 2 or v[1] <= 0 for v in factor.values()):
        raise ValueError(
            "density and intensity, each [mean, deviation] with a deviation above 0, are expected"
        )
    return {name: [float(number) for number in pair] for name, pair in factor.items()}


def _some_weight(section):
    if not any(weight for name, weight in section if name != "keep_rhythm"):
        raise ValueError("one weight at least must be above 0")
    return section


def _heads_share_the_width(n_head, info):
    width = info.data.get("d_model")
    if width and (width % n_head or width // n_head % 2):
        raise ValueError(
            f"d_model ({width}) / n_head must be a whole, even number (the rotary embedding turns pairs)"
        )
    return n_head


def _cosine_falls(minimum, info):
    if minimum > info.data.get("learning_rate", minimum):
        raise ValueError(f"it must be at most learning_rate ({info.data['learning_rate']})")
    return minimum


Count = Annotated[int, Field(ge=1, le=MOST_WHOLE)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST_WHOLE)]
Few = Annotated[int, Field(ge=1, le=256)]  # layers, processes
FewOrZero = Annotated[int, Field(ge=0, le=256)]
Size = Annotated[int, Field(ge=1, le=65536)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Place = Annotated[str, Field(min_length=1)]


def _both_are_there(remaining, info):
    if remaining and not (info.data.get("remaining_budget") and info.data.get("steady")):
        raise ValueError("it needs remaining_budget and steady")
    return remaining


Range = Annotated[list[Positive], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


# ---- Data


SPLITS = ("train", "validation", "test")


class Splits(Section):
    validation: BelowOne
    test: Annotated[BelowOne, AfterValidator(_leaves_some_for_training)]


class Augmentation(Section):
    meter: Probability = 0.0
    bar_shuffle: Probability
    repeat_bar: Probability = 0.0
    plain: Probability = 0.0
    plain_range: Annotated[Range, AfterValidator(_velocities)] = [0.25, 0.5]
    voice_shift: Probability
    voice_drop: Probability
    voice_mix: Probability
    double_time: Probability
    half_time: Annotated[Probability, AfterValidator(_no_window_gets_both)]
    swing: Probability
    swing_max: Annotated[float, Field(ge=0, le=0.5)]
    tightness: Probability
    tightness_range: Range
    velocity_scale: Probability
    velocity_power_range: Range
    timing_jitter: Probability
    timing_jitter_std: NotNegative
    mask_steps: Probability
    mask_steps_share: Probability
    mask_span: Probability
    mask_velocity: Probability
    mask_offset: Probability
    flat_velocity: Probability
    flat_velocity_range: Annotated[Range, AfterValidator(_velocities)]
    rhythm_loudness: Probability
    rhythm_power_range: Range


# relative weights of the names of one draw
_SOURCES = ("loudest", "kick_snare", "hats", "voice_subset")
RhythmSource = _of_one_kind("RhythmSource", NotNegative, *_SOURCES, hands=0.0, part=0.0)
Part = _of_one_kind("Part", Probability, "beats", "plain", "repeat_bar")
_TASKS = ("tap", "humanise", "add_voice", "infill", "continue")
Task = create_model(
    "Task", __base__=_of_one_kind("Tasks", NotNegative, *_TASKS), keep_rhythm=(Probability, ...)
)
_CONTROLS = ("density", "intensity", "instrument", "voice", "style", "all_controls", "all_but_one")
_RHYTHM = ("context", "latent", "rhythm", "rhythm_tail")
Drop = _of_one_kind(
    "Drop", Probability, *_CONTROLS, *_RHYTHM, steady=1.0, rhythm_is=0.0, phrase=0.5, pads=1.0
)


class Data(Section):
    corpus: Place
    cache_dir: Place
    down_sample_tpq: Annotated[int, AfterValidator(_sixteenths)]
    clip_bar: Size
    hop_size: Size
    normalize_factor: Annotated[dict[str, list[float]] | None, AfterValidator(_mean_and_deviation)]
    splits: Splits
    preprocess_workers: Few
    loader_workers: FewOrZero
    batch_size: Size
    validation_batch_size: Size
    halves: Annotated[Probability, AfterValidator(_half_a_window_is_whole_bars)]
    augmentation: Augmentation
    rhythm_source: Annotated[RhythmSource, AfterValidator(_some_weight)]
    part: Part = Part(beats=0.0, plain=0.0, repeat_bar=0.0)
    task: Annotated[Task, AfterValidator(_some_weight)]
    drop: Drop


# ---- Model


class Stack(Section):
    d_model: Size
    n_layer: Few
    n_head: Annotated[Size, AfterValidator(_heads_share_the_width)]
    d_ff: Size
    dropout: BelowOne


class Intermediate(Section):
    d_latent: Size


class ConditionParams(Section):
    d_condition: Size
    d_control: Size
    film: bool
    remaining_budget: bool
    steady: bool = False
    remaining_steady: Annotated[bool, AfterValidator(_both_are_there)] = False
    phrase: bool = False


class Decoder(Stack):
    rope_theta: Positive
    window: Count
    history: Annotated[list[Size], Field(max_length=64), AfterValidator(_rising)] = []
    condition_params: ConditionParams


class Output(Section):
    velocity_bins: Annotated[Size, Field(ge=2)]
    offset_bins: Annotated[Size, Field(ge=2)]
    onset_chain: bool
    d_head: Size
    dropout: BelowOne


class Model(Section):
    rhythm_is: bool = False
    pads: bool = False
    longest_bar: Annotated[int, Field(ge=16, le=32)] = 16
    Encoder: Stack
    Intermediate: Intermediate
    Decoder: Decoder
    Output: Output


# ---- Training


class VAEParams(Section):
    start_step: CountOrZero
    cycle_steps: Count
    kl_weight: NotNegative
    free_bits: NotNegative


LossWeight = _of_one_kind("LossWeight", NotNegative, "onset", "velocity", "offset", "marginal")


class Training(Section):
    run_dir: Place
    seed: Seed
    steps: Count
    accumulation_steps: Count
    plain_steps: CountOrZero
    learning_rate: Positive
    minimum_learning_rate: Annotated[NotNegative, AfterValidator(_cosine_falls)]
    warmup_steps: CountOrZero
    weight_decay: NotNegative
    betas: Annotated[list[BelowOne], Field(min_length=2, max_length=2)]
    clip_norm: Positive
    ema_decay: BelowOne
    precision: Literal["float32", "bfloat16", "auto"]
    compile: bool
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")]
    VAE_params: VAEParams
    loss_weight: LossWeight
    late_onset_weight: NotNegative
    teachers: list[str]
    teachers_share: Probability
    log_every: Count
    validate_every: Count
    checkpoint_every: Count
    sample_every: Count
    keep_last: Count
    keep_every: CountOrZero


class Config(Section):
    Data: Data
    Model: Model
    Training: Training

    def to_dict(self):
        """The config as plain dicts, lists, text and numbers: what a checkpoint carries."""
        return self.model_dump()


# ---- Loading


def load_config(path="config.yaml", overrides=()):
    """The config of a YAML file, changed by overrides such as "Training.learning_rate=3e-4".

    An override's value is read like the file's. A later override of the same key wins.
    Raises ConfigError, a ValueError, that lists all problems of the file and the overrides.
    """
    values, problems = read_file(path)
    for override in overrides:
        problems += apply_override(values, override)
    return config_from_dict(values, path, problems)


def config_from_dict(values, source="config", problems=()):
    """The config of a plain dict, as a checkpoint carries it; `source` is named in errors.

    Raises ConfigError, a ValueError, that lists all problems, those known already first.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems = [*problems, *explain(error, Config)]
    if problems:
        raise ConfigError(source, problems)
    return config
