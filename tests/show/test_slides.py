"""The talks: every number is stored and every picture is there; no text leaves its place, no picture its page."""

import json
import re
import shutil
from pathlib import Path

import pytest
from matplotlib.font_manager import FontProperties, findfont
from PIL import ImageFont
from pptx import Presentation
from pptx.util import Pt

from unveil import project
from unveil.errors import UnveilError
from unveil.show import slides

FIGURES = project.ROOT / "figures"
RESULTS = project.ROOT / "data" / "results"
DECKS = sorted(slides.SOURCE.glob("[0-9]_*.md"))
# Arial and its substitutes set a text narrower than this font, which is everywhere: these shares of it, by measurement.
FONT = ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans")), 100)
REGULAR, BOLD = 0.875, 0.94


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The committed talks, built from what is committed alone."""
    return slides.build(tmp_path_factory.mktemp("slides"), results=Path("nothing"), figures=FIGURES)


def lines(text: str, points: float, width: float, share: float) -> int:
    """How many lines of ``width`` points a text takes, broken at its spaces."""
    count, used = 1, 0.0
    for word in text.split():
        length = FONT.getlength(word + " ") * points / 100 * share
        if used and used + length > width:
            count, used = count + 1, 0.0
        used += length
    return count


def text_height(frame, width: float, points: float, share: float = REGULAR) -> float:
    """Points of height that a frame's paragraphs take; ``points`` is the size where a run has none of its own."""
    total = 0.0
    for paragraph in frame.paragraphs:
        size = max((run.font.size.pt for run in paragraph.runs if run.font.size), default=points)
        after = paragraph.space_after.pt if paragraph.space_after is not None else 8
        indent = 22 if points in (20, 24) else 0
        total += lines(paragraph.text, size, width - indent, share) * 1.2 * size + after
    return total


def overflows(path: Path) -> list[str]:
    """What leaves its place, as "page N: …"."""
    deck, found = Presentation(str(path)), []
    for page, slide in enumerate(deck.slides, 1):
        captioned = slide.slide_layout.name == "Content with Caption"
        for shape in slide.shapes:
            right, bottom = shape.left + shape.width, shape.top + shape.height
            if min(shape.left, shape.top) < 0 or right > deck.slide_width or bottom > deck.slide_height:
                found.append(f"page {page}: {shape.name} leaves the page")
            if shape.has_table:
                height = 0.0
                for row in shape.table.rows:
                    cells = zip(row.cells, shape.table.columns, strict=True)
                    needed = (text_height(cell.text_frame, column.width.pt - 14.4, 20) + 7 for cell, column in cells)
                    height += max(row.height.pt, *needed)
                if height > (4.75 if captioned else 5.4) * 72:
                    found.append(f"page {page}: a table of {height:.0f} points")
            elif shape.is_placeholder and page > 1 and shape.has_text_frame and "NUMBER" not in shape.name.upper():
                points = 27 if shape.name.startswith("Title") else 22 if captioned else 24
                share = REGULAR if points == 24 else BOLD
                needed = text_height(shape.text_frame, shape.width.pt - 14.4, points, share)
                if needed > shape.height.pt + 4:
                    found.append(f"page {page}: {shape.name} needs {needed:.0f} of {shape.height.pt:.0f} points")
    return found


def test_nothing_leaves_its_place(built):
    assert len(built) == 4
    assert {path.stem: overflows(path) for path in built} == {path.stem: [] for path in built}


def test_the_overflow_check_sees_what_does_not_fit(tmp_path, built):
    deck = Presentation(str(built[1]))
    slide = deck.slides[1]
    slide.shapes.title.text_frame.text = "A headline that goes on and on until nobody wants to read it any more, " * 3
    next(shape for shape in slide.shapes if shape.shape_type == 13).left = Pt(-5)
    deck.save(str(tmp_path / "bad.pptx"))
    found = overflows(tmp_path / "bad.pptx")
    assert any("leaves the page" in line for line in found) and any("Title" in line for line in found)


def test_pages_have_notes_and_numbers_and_no_code_names(built):
    for path in built:
        for number, slide in enumerate(Presentation(str(path)).slides, 1):
            texts = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
            texts += [c.text for s in slide.shapes if s.has_table for row in s.table.rows for c in row.cells]
            assert not re.search(r"\{\{|multi_view|focal_stack|\bnan\b|undefined", " ".join(texts)), (path.stem, number)
            if number > 1:
                assert len(slide.notes_slide.notes_text_frame.text.split()) >= 18, (path.stem, number)
                assert any(shape.name.startswith("Slide Number") for shape in slide.shapes), (path.stem, number)


@pytest.mark.parametrize("deck", DECKS[2:], ids=lambda path: path.stem)
def test_results_are_told_in_pictures(deck):
    pages = re.split(r"^# ", deck.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pictured = ["../figures/" in page for page in pages if not page.startswith("Appendix")]
    assert all(any(pair) for pair in zip(pictured, pictured[1:-1], strict=False))
    for page in pages:
        rows = [line for line in page.split("\n") if line.startswith("| ")]
        assert len(rows) <= 7 or page.startswith("Appendix"), page.split("\n")[0]


def test_the_interim_talk_knows_no_final_weights():
    text = DECKS[2].read_text(encoding="utf-8")
    assert not re.search(r"test\.(multi_view|focal_stack|rednet)|real\.|06_", text)


def test_builds_are_identical(built, tmp_path):
    again = slides.build(tmp_path, results=Path("nothing"), figures=FIGURES)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]
    assert (tmp_path / "numbers.json").stat().st_size < 40_000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Found {{ test.no_such_model.psnr[0] }}.", "no_such_model"),
        ("Found {{ test.multi_view.psnr[300] }}.", "300"),
        ("Runs {{ nothing }}.", "nothing"),
        ("![](../figures/99_none.png)", "99_none.png"),
    ],
)
def test_what_is_missing_is_an_error_that_names_deck_and_line(tmp_path, line, said):
    deck = tmp_path / "4_talk.md"
    deck.write_text(f"# A page\n\n{line}\n", encoding="utf-8")
    known = {"test": {"multi_view": {"psnr": {0: 40.0}}}}
    with pytest.raises(UnveilError, match=rf"4_talk\.md, line 3.*{said}"):
        slides.render(deck, known, tmp_path)


def test_a_lecturer_changes_a_sentence_and_a_number(tmp_path, monkeypatch):
    for name in ("theme.pptx", "talk.yaml", "numbers.json"):
        shutil.copy(slides.SOURCE / name, tmp_path)
    (tmp_path / "1_talk.md").write_text("# We found {{ mine.rows.a_b.n }} of {{ percent(mine.share) }}\n\n- $x_i$\n")
    (tmp_path / "mine.json").write_text(json.dumps({"rows": [{"sample": "a", "model": "b", "n": 1234}], "share": 0.5}))
    monkeypatch.setattr(slides, "SOURCE", tmp_path)
    (path,) = slides.build(tmp_path / "out", results=tmp_path, figures=tmp_path)
    assert Presentation(str(path)).slides[1].shapes.title.text == "We found 1,234 of 50 %"
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(UnveilError, match=r"mine\.json: not JSON"):
        slides.build(tmp_path / "out", results=tmp_path, figures=tmp_path)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_number_without_a_value_is_no_blank(tmp_path, value):
    (tmp_path / "1_talk.md").write_text("{{ x }}")
    with pytest.raises(UnveilError, match="no value"):
        slides.render(tmp_path / "1_talk.md", {"x": value}, tmp_path)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
@pytest.mark.slow
def test_a_pdf_has_no_date_of_today(built, tmp_path):
    content = slides.to_pdf([shutil.copy(built[1], tmp_path)])[0].read_bytes()
    assert content[:5] == b"%PDF-" and b"/CreationDate(D:20240101" in content


def test_without_libreoffice_there_is_a_word_and_no_pdf(built, monkeypatch):
    monkeypatch.setattr(slides.shutil, "which", lambda _: None)
    said = []
    assert slides.to_pdf(built, said.append) == [] and "LibreOffice" in said[0]
