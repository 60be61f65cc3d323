"""Run folders read back: the table of a sweep, the picture of the curves, the record of what a run was made
with."""

import json
import math
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from matplotlib.image import imread

from evaluate import main
from utils import files
from utils.evaluation import compare_runs
from utils.evaluation.compare_runs import summary, table
from utils.training import environment
from utils.training.environment import record_environment, without_folders
from utils.training.runs import differences, flat, names, read_metrics, read_run, read_runs

PLANNED = 40


def train(step, **figures):
    rest = {
        "onset": 2.0,
        "velocity": 3.0,
        "offset": 3.0,
        "kl_per_bar": 8.0,
        "active_units": 4,
        "gradient_norm": 1.0,
        "learning_rate": 1e-3,
        "samples_per_second": 100.0,
    }
    return {"step": step, "kind": "train", **rest, **figures}


def validation(step, score, **figures):
    rest = {
        f"{head}_{setting}": 1.0 for head in ("onset", "velocity", "offset") for setting in ("given", "unset")
    }
    return {"step": step, "kind": "validation", **rest, "score": score, **figures}


def write_run(folder, lines, **training):
    """A run folder with these lines and Training keys; returns it."""
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"Data": {"batch_size": 8}, "Training": {"run_dir": str(folder), "steps": PLANNED, **training}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def sweep(tmp_path):
    """runs/ with a good run that overfits, a killed one, one that is still before its first validation, and
    others."""
    runs = tmp_path / "runs"
    good = [
        train(10),
        validation(20, 5.0, onset_unset=0.5),
        train(30, samples_per_second=300.0),
        train(40),
        validation(40, 6.0, onset_unset=0.75),
    ]
    write_run(runs / "good", good, learning_rate=3e-4, compile=True)
    killed = write_run(
        runs / "killed", [train(10), validation(10, 5.5, onset_unset=0.25), train(20)], learning_rate=1e-3
    )
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "kind": "train", "on')
    write_run(runs / "young", [train(5, onset=None)], learning_rate=1e-3, compile=False)
    (runs / "empty").mkdir()
    write_run(runs / "begun", [])
    (runs / "notes.txt").write_text("lr 1e-3 is best")
    return runs


def places(sweep):
    return [str(path) for path in sorted(sweep.iterdir())]


# ------------------------------------------------------------------------- reading


def test_a_run_is_read_with_its_best_step(sweep):
    run = read_run(sweep / "good")
    assert (
        run.best("score")["step"] == 20
        and run.best("onset_given")["step"] == 20
        and run.best("nothing") is None
    )
    assert (run.lines[-1]["step"], run.config["Training.steps"]) == (40, PLANNED)
    assert run.curve("train", "samples_per_second") == ([10, 30, 40], [100, 300, 100])
    assert read_run(sweep / "young").curve("train", "onset") == ([5], [None])
    assert read_run(sweep / "killed").lines[-1]["step"] == 20  # half a line tells nothing


def test_a_figure_that_was_not_finite_is_never_the_best(tmp_path):
    lines = [validation(10, float("nan")), validation(20, None), validation(30, 4.0), validation(40, 3.0)]
    assert read_run(write_run(tmp_path / "run", lines)).best("score")["step"] == 40


def test_folders_that_are_no_runs_are_named(sweep):
    runs, left_out = read_runs(places(sweep))
    assert names(runs) == ["good", "killed", "young"]
    assert left_out == [
        f"{sweep}/begun/metrics.jsonl: holds no figures yet",
        f"{sweep}/empty: no run, it holds no metrics.jsonl",
        f"{sweep}/notes.txt: not a folder",
    ]
    (sweep / "good" / "config.yaml").unlink()
    (sweep / "young" / "config.yaml").write_text("a: [")
    runs, left_out = read_runs(places(sweep))
    assert names(runs) == ["killed"] and f"{sweep}/good/config.yaml: can't be read" in "".join(left_out)
    with pytest.raises(ValueError, match=f"no run to show: {sweep}/empty: no run, it holds no metrics.jsonl"):
        read_runs([sweep / "empty"])
    with pytest.raises(ValueError, match=f"{sweep}/none.jsonl: can't be read: No such file"):
        read_metrics(sweep / "none.jsonl")


def test_a_folder_named_twice_is_one_run(sweep):
    runs, _ = read_runs([sweep / "good", f"{sweep}/good/", sweep / "young" / ".." / "good"])
    assert len(runs) == 1


def test_names_tell_folders_apart(tmp_path):
    for place in ("a/run", "b/run", "b/more/run"):
        write_run(tmp_path / place, [train(1)])
    assert names([read_run(tmp_path / place) for place in ("a/run", "b/run")]) == ["a/run", "b/run"]
    assert names([read_run(tmp_path / place) for place in ("b/run", "b/more/run")]) == ["run", "more/run"]
    assert names([read_run(tmp_path / "a/run")]) == ["run"]


def test_differences_are_of_the_config_alone(sweep):
    runs, _ = read_runs(places(sweep))
    assert differences(runs) == [
        {"Training.compile": True, "Training.learning_rate": 3e-4},
        {"Training.compile": None, "Training.learning_rate": 1e-3},
        {"Training.compile": False, "Training.learning_rate": 1e-3},
    ]
    assert differences(runs[:1]) == [{}]
    assert flat({"a": {"b": {"c": [1]}, "d": {}}, "e": None}) == {"a.b.c": [1], "e": None}


# ------------------------------------------------------------------------- the table


def rows_of(text):
    return [line.split() for line in text.splitlines()]


def test_table_has_the_best_first(sweep):
    rows = summary(read_runs(places(sweep))[0])
    assert rows_of(table(rows)) == [
        [*"run score best at steps onset velocity offset samples/s".split(), "Training.compile"]
        + ["Training.learning_rate"],
        ["good", "5.000", "20", "40/40", "1.000/0.500", "1.00/1.00", "1.00/1.00", "100", "true", "0.0003"],
        ["killed", "5.500", "10", "20/40", "1.000/0.250", "1.00/1.00", "1.00/1.00", "100", "-", "0.001"],
        ["young", "-", "-", "5/40", "-/-", "-/-", "-/-", "100", "false", "0.001"],
    ]
    assert len({len(line) for line in table(rows).splitlines()}) == 1
    by_onset = table(summary(read_runs(places(sweep))[0], "onset_unset"), "onset_unset")
    assert [line[:3] for line in rows_of(by_onset)[1:3]] == [
        ["killed", "0.250", "5.500"],
        ["good", "0.500", "5.000"],
    ]


def test_the_best_step_is_that_of_the_figure_sorted_by(tmp_path):
    run = write_run(
        tmp_path / "run", [validation(10, 5.0, onset_unset=0.9), validation(20, 6.0, onset_unset=0.4)]
    )
    assert [summary([read_run(run)], sort)[0]["best_step"] for sort in ("score", "onset_unset")] == [10, 20]


def test_runs_that_have_little_in_common_share_a_short_table(tmp_path):
    runs = [
        read_run(write_run(tmp_path / str(i), [train(1)], **{f"key_{k}": i for k in range(9)}))
        for i in (1, 2)
    ]
    lines = table(summary(runs)).splitlines()
    assert "key_0" not in lines[0] and lines[-1].startswith(
        "the configs differ in 9 keys, too many to show: Training.key_0"
    )


def test_the_command_prints_and_writes(sweep, tmp_path, capsys):
    picture, figures = tmp_path / "out" / "curves.png", tmp_path / "out" / "runs.json"
    assert main(["--runs", *places(sweep), "--curves", str(picture), "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith("Lowest score on validation first")
    assert [line.split()[0] for line in said.splitlines()[2:5]] == ["good", "killed", "young"]
    assert f"left out, 3: {sweep}/begun/metrics.jsonl: holds no figures yet; {sweep}/empty" in said
    written = json.loads(figures.read_text())
    assert written["sort"] == "score" and len(written["left_out"]) == 3
    best = written["runs"][0]
    assert (
        best["run"] == "good"
        and best["figures"]["onset_unset"] == 0.5
        and best["config"]["Training.compile"] is True
    )
    assert (best["best_step"], best["steps_done"], best["steps_planned"], best["samples_per_second"]) == (
        20,
        40,
        40,
        100,
    )
    assert imread(picture).std() > 0.05


def test_no_checkpoint_and_no_torch_is_needed(sweep, tmp_path, repository):
    outputs = ["--curves", str(tmp_path / "c.png"), "--json", str(tmp_path / "r")]
    code = f"""import sys
from evaluate import main
status = main({["--runs", str(sweep / "good"), *outputs]!r})
sys.exit(status or "torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--runs", "RUNS/empty"], "no run to show: RUNS/empty: no run, it holds no metrics.jsonl"),
        (
            ["--runs", "RUNS/good", "--sort", "onset"],
            "--sort: onset; the runs have onset_given, onset_unset, velocity_given",
        ),
        (["--runs", "RUNS/good", "--windows", "3"], "--windows means nothing with --runs"),
        (["--runs", "RUNS/good", "--midi-dir", "x"], "--midi-dir means nothing with --runs"),
        (["--runs", "RUNS/good", "--split", "test"], "--split means nothing with --runs"),
        (["--runs", "RUNS/good", "--set", "Data.corpus=x"], "--set means nothing with --runs"),
        (["--sort", "score"], "--sort needs --runs"),
        (["--curves", "x.png"], "--curves needs --runs"),
        (["--runs", "RUNS/good", "--json", "RUNS/notes.txt/x"], "RUNS/notes.txt/x: can't be written"),
        (["--runs", "RUNS/good", "--curves", "RUNS/notes.txt/x"], "RUNS/notes.txt/x: can't be written"),
    ],
)
def test_errors_are_one_line(sweep, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("RUNS", str(sweep)) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and words.replace("RUNS", str(sweep)) in said


# ------------------------------------------------------------------------- the curves


@pytest.fixture
def drawn(monkeypatch):
    """The figure that draw_curves would write."""
    figures = []
    monkeypatch.setattr(compare_runs, "save", lambda figure, path: figures.append(figure))
    return lambda runs: compare_runs.draw_curves("unused.png", runs) or figures[-1]


def test_every_panel_shows_every_run(sweep, drawn):
    figure = drawn(read_runs(places(sweep))[0])
    panels = {
        axis.get_title(loc="left"): [line for line in axis.lines if len(line.get_xdata())]
        for axis in figure.axes
    }
    assert list(panels) == list(compare_runs.PANELS)
    curves = [(list(line.get_xdata()), list(line.get_ydata())) for line in panels["onset"]]
    good = [([10, 30, 40], [2, 2, 2]), ([20, 40], [1, 1]), ([20, 40], [0.5, 0.75])]
    assert curves[:3] == good and len(curves) == 3 + 3 + 1
    assert math.isnan(curves[6][1][0])  # null
    assert [list(line.get_xdata()) for line in panels["score"]] == [[20, 40], [10]]
    assert list(panels["score"][0].get_ydata()) == [5, 6]
    assert len({line.get_color() for line in panels["gradient_norm"]}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["good", "killed", "young"]


def test_many_runs_have_a_colour_each(tmp_path, drawn):
    runs = [read_run(write_run(tmp_path / f"run_{i}", [train(1), train(2)])) for i in range(13)]
    lines = [line for line in drawn(runs).axes[-1].lines if len(line.get_xdata())]
    assert len({line.get_color() for line in lines}) == 13


# ------------------------------------------------------------------------- what a run was made with


def sessions(folder):
    return json.loads((folder / "environment.json").read_text())["sessions"]


def test_the_environment_of_a_run_is_recorded(tmp_path, monkeypatch, repository):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    home = "/home" + "/someone"  # in two pieces, as no file here names a place on a machine
    monkeypatch.setattr(
        sys, "argv", [f"{home}/train.py", "--set", f"Data.corpus={home}/my drums", "--resume", "runs/x"]
    )
    assert record_environment(tmp_path, 0) == ""
    (now,) = sessions(tmp_path)
    assert now["step"] == 0 and now["command"] == [
        "train.py",
        "--set",
        "Data.corpus=my drums",
        "--resume",
        "x",
    ]
    assert now["packages"]["torch"] == torch.__version__ and now["packages"]["pyyaml"] == yaml.__version__
    wanted = [
        line.split("=")[0].split(">")[0].strip()
        for line in (repository / "requirements.txt").read_text().splitlines()
    ]
    assert list(now["packages"]) == wanted and all(now["packages"].values())
    assert now["python"] == platform.python_version() and now["torch_threads"] == torch.get_num_threads()
    assert now["variables"]["OMP_WAIT_POLICY"] == "PASSIVE" and now["processes"] == 1
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True)
    assert now["commit"] == (git.stdout.strip() if git.returncode == 0 else None)
    text = (tmp_path / "environment.json").read_text()
    assert not [place for place in (str(Path.home()), str(repository), str(tmp_path)) if f'"{place}' in text]
    assert f'"{platform.node()}"' not in text


def test_a_resume_is_added_and_told_of_where_it_may_change_the_numbers(tmp_path, monkeypatch):
    assert record_environment(tmp_path, 0) == ""
    assert record_environment(tmp_path, 500) == ""
    real = environment.environment
    monkeypatch.setattr(
        environment,
        "environment",
        lambda: real() | {"packages": {**real()["packages"], "numpy": "9.9", "tqdm": "9.9"}, "processes": 4},
    )
    told = record_environment(tmp_path, 1000)
    assert told == f"numpy 9.9 (was {sessions(tmp_path)[0]['packages']['numpy']}), processes 4 (was 1)"
    monkeypatch.undo()
    assert record_environment(tmp_path, 0) == ""  # from the beginning, so nothing is carried over
    assert [session["step"] for session in sessions(tmp_path)] == [0, 500, 1000, 0]


def test_a_record_that_is_no_record_begins_anew(tmp_path):
    for text in ('{"sess', "[]", '{"sessions": 3}', '{"sessions": [null]}'):
        (tmp_path / "environment.json").write_text(text)
        assert record_environment(tmp_path, 10) == ""
        assert [session["step"] for session in sessions(tmp_path)] == [10]


def test_a_crash_leaves_the_old_record(tmp_path, monkeypatch):
    record_environment(tmp_path, 0)
    before = (tmp_path / "environment.json").read_text()

    def crash(*paths):
        raise OSError("no")

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(ValueError, match="can't be written"):
        record_environment(tmp_path, 10)
    assert (tmp_path / "environment.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "PROGRAM", tmp_path)
    assert environment._commit() == {"commit": None}


@pytest.mark.parametrize(
    "word, kept",
    [
        ("runs/x", "x"),
        ("--lr=3e-4", "--lr=3e-4"),
        ("Training.betas=[0.9, 0.98]", "Training.betas=[0.9, 0.98]"),
        ("/a/b/c.zip", "c.zip"),
        ("--out=/a/b/", "--out=b"),
        ("C:\\Users\\me\\x.mid", "x.mid"),
        ("Data={corpus: /a/b, cache_dir: /a/c}", "Data=c}"),
    ],
)
def test_folders_are_cut_out_of_a_command(word, kept):
    assert without_folders(word) == kept
