"""Checkpoints: written whole or not at all, read without running code, exported for shipping.

Its keys: config (plain dict), vae_model, vae_optimizer, scheduler, step; a training checkpoint adds `ema`
(name -> tensor, the averaged weights) and what an exact resume needs.
"""

import pickle
import re
import zipfile
from pathlib import Path

import torch

from utils.checks import first_few, one_line, shorten
from utils.files import UNFINISHED, written_whole
from utils.warn import warn

_PLAIN = (type(None), bool, int, float, str)
_STEP_FILE = re.compile(r"step_(\d+)\.pt")


def checkpoint_path(folder, step):
    """Where the checkpoint of an optimizer step lies, such as folder/step_00000500.pt."""
    return Path(folder) / f"step_{step:08d}.pt"


def save_checkpoint(checkpoint, path):
    """Writes a dict to `path`, whole or not at all, its tensors moved to the CPU.

    Raises ValueError, before anything is written, for a value that a weights-only load would refuse.
    """
    checkpoint = _portable(checkpoint, "checkpoint")
    with written_whole(path) as aside:
        torch.save(checkpoint, aside)


def _portable(value, name):
    """The same structure, tensors on the CPU; ValueError for what isn't plain (a NumPy number, an object)."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {
            _portable(key, f"a key of {name}"): _portable(item, f"{name}[{key!r}]")
            for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(_portable(item, f"{name}[{index}]") for index, item in enumerate(value))
    if type(value) in _PLAIN:
        return value
    raise ValueError(
        f"{name} is a {type(value).__module__}.{type(value).__name__}; "
        "a checkpoint holds only tensors, numbers, text, lists and dicts"
    )


def load_checkpoint(path, map_location="cpu"):
    """The dict in a checkpoint file, tensors on `map_location`. It runs no code of the file's.

    Raises ValueError, naming the file and the reason: missing, truncated or damaged, not a checkpoint,
    with objects in it, without `config` or `vae_model`, with weights that are no plain tensors of finite
    numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint file")
    _check_whole(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: holds more than tensors, numbers, text, lists and dicts, which could run code "
            "when loaded; refused"
        ) from None
    except Exception as error:  # a file made to break the reader breaks it anywhere
        raise ValueError(f"{path}: can't be read as a checkpoint: {one_line(error)}") from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, a dict is expected")
    lacking = [key for key in ("config", "vae_model") if not isinstance(checkpoint.get(key), dict)]
    if lacking:
        raise ValueError(f"{path}: not a checkpoint of this program, it lacks {' and '.join(lacking)}")
    for key in ("vae_model", "ema"):
        _check_weights(checkpoint.get(key, {}), key, path)
    return checkpoint


def _check_weights(weights, key, path):
    """ValueError for what is no dict of plain tensors of finite numbers."""
    odd = {} if isinstance(weights, dict) else {key: "is no dict of tensors"}
    for name, x in ({} if odd else weights).items():
        if not isinstance(name, str) or not isinstance(x, torch.Tensor):
            odd[name] = "is no tensor with a name"
        elif x.layout != torch.strided or x.is_quantized or x.is_nested or x.is_meta or x.is_complex():
            odd[name] = "is sparse, quantised, nested, complex or without data"
        elif x.numel() * x.element_size() > x.untyped_storage().nbytes():
            odd[name] = "is one number for many"
        elif x.is_floating_point() and not x.float().isfinite().all():
            odd[name] = "is not finite"
    if odd:
        said = [f"{shorten(str(name))} {what}" for name, what in odd.items()]
        raise ValueError(f"{path}: weights that can't be used: {first_few(said, 4)}")


def _check_whole(path):
    """torch.load reads damaged tensors without a word; the checksums in the file tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # what zipfile raises for a broken directory is not its own error alone
        raise ValueError(f"{path}: truncated, damaged or not a checkpoint ({one_line(error)})") from None
    if damaged:
        raise ValueError(f"{path}: damaged, the checksum of {damaged} does not fit")


def load_weights(model, state_dict, path, may_lack=()):
    """Copies a checkpoint's `vae_model` into the model, cast to its dtypes; `path` is named in errors.

    Weights of a drummer of shorter bars grow, which is said (see model.meter). may_lack: names of parts that
    the checkpoint may lack; they stay as they are. Returns those that it lacks. Raises ValueError that says
    what is missing, unexpected and misshapen.
    """
    grown = ""
    if hasattr(model, "for_longer_bars"):
        state_dict, grown = model.for_longer_bars(state_dict)
    own = model.state_dict()

    def has(names, part):
        return any(name.startswith(f"{part}.") for name in names)

    lacking = [part for part in may_lack if has(own, part) and not has(state_dict, part)]
    kept = {name: own[name] for name in own if any(has([name], part) for part in lacking)}
    try:
        model.load_state_dict(state_dict | kept)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model: {one_line(error, 400)}") from None
    if grown:
        print(f"{path}: {grown}")
    return lacking


def export_checkpoint(source, target):
    """Writes what is shipped of a checkpoint: config, averaged weights (`ema`) in float16, step, figures.

    The keys vae_optimizer and scheduler stay, empty. Raises ValueError for a source that can't be read or
    holds no averaged weights that fit, and for a weight that float16 can't hold.
    """
    checkpoint = load_checkpoint(source)
    weights, average = checkpoint["vae_model"], checkpoint.get("ema")
    if not average:
        raise ValueError(f"{source}: holds no averaged weights (key ema) to export")
    misfits = [name for name in average if name not in weights or weights[name].shape != average[name].shape]
    if misfits:
        raise ValueError(f"{source}: averaged weights that do not fit the model: {', '.join(misfits[:4])}")
    halved = {name: _halved(x, name, source) for name, x in (weights | average).items()}
    save_checkpoint(as_shipped(checkpoint, checkpoint["config"], halved), target)


def as_shipped(checkpoint, config, weights):
    """What is shipped of a checkpoint, with this config and these weights."""
    kept = {"step": checkpoint.get("step", 0), "figures": checkpoint.get("figures", {})}
    return {"config": config, "vae_model": weights, "vae_optimizer": {}, "scheduler": {}, **kept}


def _halved(tensor, name, source):
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.equal(torch.isfinite(half), torch.isfinite(tensor)):
        raise ValueError(f"{source}: {name} reaches {tensor.abs().max():g}, more than float16 can hold")
    return half


def latest_checkpoint(folder):
    """The checkpoint of the last step in a folder, or None where there is none."""
    return next(reversed(_step_files(folder)), None)


def load_latest(folder, map_location="cpu"):
    """(path, checkpoint) of the last step in a folder whose file is whole; a warning names damaged ones.

    Raises ValueError where none can be read.
    """
    problem = ValueError(f"{folder}: holds no checkpoint")
    for path in reversed(_step_files(folder)):
        try:
            return path, load_checkpoint(path, map_location)
        except ValueError as error:
            warn(f"{error}; the checkpoint before it is taken")
            problem = error
    raise problem


def prune_checkpoints(folder, keep_last, keep_every=0):
    """Deletes all but the last `keep_last` (at least 1) of a folder's step files and, where keep_every is not
    0, those of its multiples; best.pt and others stay. What a killed save left half-written goes, too."""
    if keep_last < 1:
        raise ValueError(f"keep_last: {keep_last}, but at least 1 is expected")
    for path in _step_files(folder)[:-keep_last]:
        if not keep_every or _step(path) % keep_every:
            path.unlink()
    for path in Path(folder).glob(f"*.pt.*{UNFINISHED}"):
        path.unlink()


def _step_files(folder):
    paths = Path(folder).glob("step_*.pt")
    return sorted((path for path in paths if _step(path) is not None), key=_step)


def _step(path):
    """The step in a checkpoint's name, or None where the name is another."""
    match = _STEP_FILE.fullmatch(path.name)
    return match and int(match[1])
