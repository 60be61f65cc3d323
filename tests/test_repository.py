"""What every file of the repository keeps to."""

import re
import runpy
import subprocess
import sys

import pytest

# /home/test.midi stands in the public usage, which runs as it stands.
MACHINE_PATH = re.compile(r"(?<![\w.])/(home(?!/test\.midi)|root|work|srv|mnt|opt|Users)/[\w.]")
PACKAGE_INDEX = re.compile(r"pypi\.org|python[h]osted|download\.pytorch|--(extra-)?index-url|--find[-]links")


@pytest.fixture(scope="module")
def files(repository):
    """Every file that is, or could be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git clone")
    paths = [repository / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def texts(files, repository):
    """Name -> text of those that are text."""
    found = {}
    for path in files:
        data = path.read_bytes()
        if b"\0" not in data:
            found[str(path.relative_to(repository))] = data.decode("utf-8", errors="replace")
    assert "config.yaml" in found
    return found


@pytest.mark.parametrize("unwanted", [MACHINE_PATH, PACKAGE_INDEX], ids=["machine path", "package index"])
def test_no_file_depends_on_one_machine(texts, unwanted):
    found = [f"{name}: {match.group()}" for name, text in texts.items() for match in unwanted.finditer(text)]
    assert not found


def test_unwanted_patterns_find_what_they_name():
    for text in (
        "open('/home" + "/someone/x')",
        " /work" + "/main",
        "=/root" + "/.cache",
        "(/Users" + "/me)",
    ):
        assert MACHINE_PATH.search(text)
    for text in ('"/home/test.midi"', "groups/work/", "./opt/x"):
        assert not MACHINE_PATH.search(text)
    for text in ("https://pypi" + ".org/simple", "files.python" + "hosted.org", "--index" + "-url x"):
        assert PACKAGE_INDEX.search(text)


def test_help_of_every_script_is_help_and_nothing_else(files, repository, tmp_path, monkeypatch, capfd):
    code = [path for path in files if path.suffix == ".py" and "tests" not in path.parts]
    scripts = [path for path in code if "\nif __name__ ==" in path.read_text()]
    assert len(scripts) >= 11
    monkeypatch.chdir(tmp_path)
    for script in scripts:
        monkeypatch.setattr(sys, "argv", [str(script), "--help"])
        monkeypatch.setattr(sys, "path", [*sys.path, str(script.parent)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(script), run_name="__main__")
        said, wrong = capfd.readouterr()
        assert not stopped.value.code and not wrong and said.startswith("usage: "), script.name
        if script.parent == repository:
            assert said.count(f"python {script.name} ") > 1, f"{script.name}: examples"
    assert not list(tmp_path.iterdir())


def test_only_checkpoints_are_large(files, repository):
    large = [path for path in files if path.stat().st_size > 1_000_000]
    assert [path for path in large if path.parent != repository / "checkpoints"] == []
    assert [path for path in large if path.stat().st_size > 20_000_000] == []


def test_python_files_are_read_in_one_sitting(texts):
    long = {
        name: lines
        for name, text in texts.items()
        if name.endswith(".py") and (lines := len(text.splitlines())) >= 400
    }
    assert not long


def test_every_requirement_says_why(texts):
    lines = [
        line for line in texts["requirements.txt"].splitlines() if line.strip() and not line.startswith("#")
    ]
    assert lines[0].split()[0] == "torch==2.13.0"
    for line in lines:
        requirement, _, why = line.partition(" #")
        assert re.search(r"[=<>]=?\d", requirement), f"no version: {line}"
        assert len(why.split()) >= 2, f"no reason: {line}"
