"""studio.py: where it serves, what it opens, and what it says where it can't."""

import uvicorn

import studio
from tests.helpers.inference_helpers import save_tiny_checkpoint


def test_it_serves_on_this_machine_alone_and_opens_the_browser(tiny_config, tmp_path, monkeypatch, capsys):
    served, opened = [], []
    monkeypatch.setattr("utils.studio.app.one_shots", lambda soundfont: {})
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: served.extend(sockets))
    monkeypatch.setattr("webbrowser.open", opened.append)
    checkpoint = str(save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt"))
    assert studio.main(studio.parse_arguments(["--port", "0", "--checkpoint", checkpoint])) == 0
    host, port = served[0].getsockname()
    assert host == "127.0.0.1" and opened == [f"http://127.0.0.1:{port}"]
    assert opened[0] in capsys.readouterr().out
    words = ["--port", str(port), "--checkpoint", checkpoint, "--no-browser"]
    assert studio.main(studio.parse_arguments(words)) == 2  # the port is taken
    said = capsys.readouterr().err
    assert said.startswith(f"studio.py: --port: {port}; another program uses it") and said.count("\n") == 1
    served[0].close()
    for flag, value, rule in (
        ("--port", "99999", "99999; it must be a number from 0 to 65535"),
        ("--soundfont", "no.sf2", "no.sf2: no such file; it must be a soundfont (.sf2)"),
        ("--device", "gpu", "'gpu'; it must be auto, or a device such as cpu, cuda:0 or mps"),
    ):
        assert studio.main(studio.parse_arguments(["--port", "0", flag, value])) == 2
        assert capsys.readouterr().err == f"studio.py: {flag}: {rule}\n"
    assert studio.main(studio.parse_arguments(["--port", "0", "--checkpoint", "no.pt"])) == 2
    assert "no.pt" in capsys.readouterr().err and len(opened) == 1
