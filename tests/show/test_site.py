"""The static site: pages that link to one another, and an index that says what each notebook takes and makes."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from unveil.errors import UnveilError
from unveil.show import site, widgets

VIEWS = np.random.default_rng(0).integers(0, 256, (11, 16, 24), dtype=np.uint8)
BADGE = "[![Open](badge.svg)](https://colab.research.google.com/github/some/one/blob/main/notebooks/01_first.ipynb)"
OPENING = f"# 01 · First\n\n{BADGE}\n\n| | |\n|---|---|\n| **In** | `x.zip` |\n| **Out** | [02](02_next.ipynb) |\n"


@pytest.fixture
def first(tmp_path):
    cells = [nbformat.v4.new_markdown_cell(OPENING + "| **Time** | a minute |")]
    cells += [nbformat.v4.new_code_cell("1 + 1", execution_count=1)]
    cells += [nbformat.v4.new_markdown_cell("See [the weights](../data/README.md) and [02](02_next.ipynb#there).")]
    cells += [nbformat.v4.new_markdown_cell("![a figure](../figures/one.gif)")]
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "one.gif").write_bytes(b"GIF89a of a figure")
    path = tmp_path / "notebooks" / "01_first.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_pages_and_index(first, tmp_path):
    index = site.build(tmp_path / "site", [first], widgets.focal_scrubber(VIEWS, truth=VIEWS[0])).read_text("utf-8")
    assert '<a href="01_first.html">01 · First</a>' in index and "<code>x.zip</code>" in index and "a minute" in index
    assert 'href="02_next.html"' in index and ".ipynb" not in index
    page = (tmp_path / "site" / "01_first.html").read_text("utf-8")
    assert 'href="02_next.html#there"' in page and 'href="index.html"' in page
    assert "https://github.com/some/one/blob/main/data/README.md" in page
    embedded = base64.b64encode(b"GIF89a of a figure").decode()
    assert re.search(rf'<img alt="a figure"\s+src="data:image/gif;base64,{re.escape(embedded)}"', page)
    assert (tmp_path / "site" / site.HERO).is_file() and f'src="{site.HERO}"' in index


def test_the_views_are_in_the_page_without_loss(tmp_path):
    index = site.build(tmp_path, [], widgets.focal_scrubber(VIEWS, truth=VIEWS[0])).read_text("utf-8")
    strip = Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([\w+/=]+)", index)[1])))
    assert (np.asarray(strip).reshape(12, 16, 24) == np.concatenate([VIEWS, VIEWS[:1]])).all()


def test_a_notebook_that_was_not_executed(first, tmp_path):
    first.write_text(first.read_text().replace('"execution_count": 1', '"execution_count": null'))
    scrubber = widgets.focal_scrubber(VIEWS)
    with pytest.raises(UnveilError, match="01_first.ipynb: was not executed"):
        site.build(tmp_path, [first], scrubber)
    with pytest.raises(UnveilError, match="absent.ipynb: no notebook"):
        site.build(tmp_path, [tmp_path / "absent.ipynb"], scrubber)
