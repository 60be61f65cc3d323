"""Runs the notebook of this folder from top to bottom and stores in it what its cells show.

    python examples/run_notebook.py

On one machine every run writes the same bytes: no times, no counts of a session, no version of Python. Sound,
which would make the file ten times as large, is left out.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("every_control.ipynb")
PLAYER = re.compile(r"<audio .*?</audio>", re.S)


def run(notebook, folder):
    """Run its cells in the folder, in a kernel of this Python. Raises nbclient's CellExecutionError."""
    how = {"kernel_name": "python3", "timeout": 600, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **how).execute()


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    run(notebook, NOTEBOOK.parent)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = PLAYER.sub("", output.data["text/html"])
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
