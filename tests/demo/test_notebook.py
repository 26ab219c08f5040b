"""The notebook of examples/, run on the demo's model."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples/ask_in_six_languages.ipynb"


@pytest.fixture(scope="module", name="outputs")
def _outputs() -> list[dict[str, str]]:
    """What the cells showed, by MIME type; what they printed as text/plain."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    shown = [output for output in outputs if output.get("name") != "stderr"]
    return [output.get("data") or {"text/plain": output["text"]} for output in shown]


def test_each_prediction_is_an_option_of_its_question(outputs: list[dict[str, str]]) -> None:
    printed = outputs[2]["text/plain"].splitlines()
    lines = (ROOT / "examples/questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(printed) == len(lines) == 6
    for said, line in zip(printed, lines, strict=True):
        assert said.split(maxsplit=1)[1] in json.loads(line)["options"]


def test_it_shows_the_image_and_the_router(outputs: list[dict[str, str]]) -> None:
    assert ["image/png" in output for output in outputs] == [True, False, False, True]


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
