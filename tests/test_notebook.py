"""The notebook of the examples runs."""

import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from surveys.small_run import write_run


@pytest.mark.slow
def test_the_search_notebook_runs_from_the_first_cell_to_the_last(tmp_path, root):
    (tmp_path / "results" / "demo").mkdir(parents=True)
    write_run(tmp_path / "results" / "demo")
    shutil.copytree(root / "examples", tmp_path / "examples")
    notebook = nbformat.read(tmp_path / "examples" / "search.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path / "examples"}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
