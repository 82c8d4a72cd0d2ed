"""What every committed notebook must look like. That they execute is tested by nbval (see the Makefile)."""

import re
import statistics

import nbformat
import pytest

from unveil import notebooks

COURSE, SOLUTIONS = notebooks.course(), notebooks.solutions()
EVERY = [pytest.param(path, id=path.stem) for path in [*COURSE, *SOLUTIONS]]
NUMBERED = [pytest.param(path, id=path.stem) for path in COURSE]
LIMIT = 1_500_000


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_they_are_numbered_and_have_solutions():
    numbers = [int(path.stem[:2]) for path in COURSE]
    assert numbers[:6] == [1, 2, 3, 4, 5, 6] and len(set(numbers)) == len(numbers)
    assert [path.stem for path in SOLUTIONS] == [f"{path.stem}_solutions" for path in COURSE]


@pytest.mark.parametrize("path", EVERY)
def test_executed_and_clean(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1)) and counts, "executed top to bottom, once"
    assert "widgets" not in notebook.metadata, "GitHub does not show notebooks with widget state"
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not [o for o in outputs if notebooks.WIDGET_VIEW in o.get("data", {})], (
        "a widget leaves its static twin only"
    )
    assert path.stat().st_size <= LIMIT


@pytest.mark.parametrize("path", NUMBERED)
def test_code_cells_are_short(path):
    lines = [cell.source.splitlines() for cell in code(read(path))]
    assert statistics.median(map(len, lines)) <= 10 and max(map(len, lines)) <= 25
    assert max(len(line) for cell in lines for line in cell) <= 100


@pytest.mark.parametrize("path", EVERY)
def test_setup_cell_is_the_same_everywhere(path):
    first = code(read(path))[0].source
    assert first == code(read(COURSE[0]))[0].source
    assert len(first.splitlines()) <= 15
    assert "torch" not in first, "the setup never touches torch"


@pytest.mark.parametrize("path", NUMBERED)
def test_opening_and_closing(path):
    notebook = read(path)
    opening, text = notebook.cells[0].source, "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert opening.startswith(f"# {path.stem[:2]} · ")
    assert f"/notebooks/{path.name})" in opening and "colab-badge.svg" in opening
    for row in ("In", "Out", "Time"):
        assert re.search(rf"^\|\s*\*\*{row}\*\*", opening, re.MULTILINE), f"the opening table lacks the row {row}"
    assert "you will learn" in opening.lower()
    assert "\n## Summary" in text and "\n## Exercises" in text
    exercises = text.split("\n## Exercises")[1]
    assert len(re.findall(r"^\s*(?:\d+\.|###|[-*] )", exercises, re.MULTILINE)) >= 3
    assert f"solutions/{path.stem}_solutions.ipynb" in exercises
    last = NUMBERED[-1].values[0]
    following = COURSE[(COURSE.index(path) + 1) % len(COURSE)]
    assert path == last or following.name in notebook.cells[-1].source, "no link to the next notebook"


@pytest.mark.parametrize("path", NUMBERED)
def test_prose_leads_to_every_code_cell(path):
    kinds = [cell.cell_type for cell in read(path).cells]
    bare = [i for i in range(1, len(kinds)) if kinds[i] == kinds[i - 1] == "code"]
    assert not bare, f"code cells {bare} have no prose before them"


@pytest.mark.parametrize("path", NUMBERED)
def test_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / target).exists(), f"{target} is not there"


def test_some_outputs_are_checked_exactly():
    tagged = [
        cell for path in COURSE for cell in code(read(path)) if "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) >= 6
    assert all(cell.outputs for cell in tagged)


def test_cleaning_drops_widgets_and_keeps_the_rest():
    view = nbformat.v4.new_output("display_data", {notebooks.WIDGET_VIEW: {"model_id": "x"}, "text/plain": "Slider()"})
    kept = nbformat.v4.new_output("stream", name="stdout", text="hello\n")
    cell = nbformat.v4.new_code_cell("1", metadata={"execution": {"iopub": "now"}, "tags": ["t"]}, outputs=[view, kept])
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    notebooks.clean(notebook)
    assert notebook.cells[0].outputs == [kept]
    assert notebook.cells[0].metadata == {"tags": ["t"]}
    assert "widgets" not in notebook.metadata


def test_badges_follow_the_repository(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(
        "[x](https://colab.research.google.com/github/a/b/blob/main/notebooks/01.ipynb) "
        'REPOSITORY = "https://github.com/a/b" and https://github.com/other/thing stays'
    )
    assert notebooks.write_badges("https://github.com/me/mine", [path]) == [path]
    text = path.read_text()
    assert "google.com/github/me/mine/blob/main" in text and '"https://github.com/me/mine"' in text
    assert "github.com/other/thing" in text
    assert notebooks.write_badges("https://github.com/me/mine", [path]) == []
