"""Checking a finished deck, whoever made it: nothing off the page, no text over its box, notes, number of pages."""

from collections.abc import Iterator
from pathlib import Path

from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.util import Inches, Length

from .layout import Chunk, Measured, inset, text_height, widest_word

TOLERANCE = 2.0
SMALLEST = 12.0


def check(path: Path, slides: tuple[int, int] = (8, 14), notes: int = 40) -> list[str]:
    """Problems of a deck as lines "page N: …"; an empty list when there are none.

    Looks at the number of pages, the words of the notes (at least ``notes``), shapes off the page, distorted pictures,
    text that does not fit its box or table cell (measured as in :mod:`.layout`), and type smaller than 12 points.
    """
    presentation = Presentation(str(path))
    pages = list(presentation.slides)
    found = []
    if not slides[0] <= len(pages) <= slides[1]:
        found.append(f"{len(pages)} pages, expected {slides[0]} to {slides[1]}")
    for number, slide in enumerate(pages, 1):
        words = slide.notes_slide.notes_text_frame.text.split() if slide.has_notes_slide else []
        if len(words) < notes:
            found.append(f"page {number}: notes have {len(words)} words, expected {notes} or more")
        for shape in slide.shapes:
            name = f"page {number}: {shape.name}"
            if (
                min(shape.left, shape.top) < 0
                or shape.left + shape.width > presentation.slide_width + 10
                or shape.top + shape.height > presentation.slide_height + 10
            ):
                found.append(f"{name} reaches off the page")
            if shape.shape_type is not None and hasattr(shape, "image"):
                wide, high = shape.image.size
                if abs(shape.width / shape.height / (wide / high) - 1) > 0.02:
                    found.append(f"{name} is distorted")
            if shape.has_text_frame:
                outline = shape.auto_shape_type if shape.shape_type == MSO_SHAPE_TYPE.AUTO_SHAPE else None
                less = Inches(2 * inset(outline, shape.width.inches, shape.height.inches))
                frame = shape.text_frame
                found += [f"{name} {p}" for p in _overflow(frame, shape.width - less, shape.height - less)]
            if shape.has_table:
                for row in shape.table.rows:
                    for column, cell in zip(shape.table.columns, row.cells, strict=True):
                        found += [f"{name}, cell “{cell.text}” {p}" for p in _overflow(cell, column.width, row.height)]
    return found


def text_of(path: Path) -> list[str]:
    """All a deck says, a string per page: text boxes, table cells, categories, names and values of the charts.

    Hard spaces, which keep numbers and units together, are given as plain ones.
    """
    return ["\n".join(_texts(slide)).replace("\u00a0", " ") for slide in Presentation(str(path)).slides]


def _texts(slide) -> Iterator[str]:
    for shape in slide.shapes:
        if shape.has_text_frame:
            yield shape.text_frame.text
        if shape.has_table:
            yield from (cell.text for row in shape.table.rows for cell in row.cells)
        if shape.has_chart:
            for plot in shape.chart.plots:
                yield from map(str, plot.categories)
                for series in plot.series:
                    yield series.name
                    yield from (repr(value) for value in series.values if value is not None)


def _overflow(holder, width: Length, height: Length) -> list[str]:
    """Problems of a text frame or a table cell in a box of that size."""
    frame = getattr(holder, "text_frame", holder)
    paragraphs = []
    problems = []
    for paragraph in frame.paragraphs:
        pieces = []
        for run in paragraph.runs:
            if run.font.size is None:
                return [f"has text without a size: “{run.text}”"]
            shift = int(run.font._element.get("baseline") or 0)
            pieces.append(Chunk(run.text, run.font.size.pt, bool(run.font.bold), (shift > 0) - (shift < 0)))
            if run.font.size.pt < SMALLEST:
                problems.append(f"has type of {run.font.size.pt:g} points: “{run.text}”")
        properties = paragraph._p.pPr
        indent = 0.0 if properties is None else Length(int(properties.get("marL") or 0)).pt
        after = paragraph.space_after.pt if paragraph.space_after is not None else 0.0
        if pieces:
            paragraphs.append(Measured(tuple(pieces), indent, after))
    if not paragraphs:
        return problems
    room = (width - holder.margin_left - holder.margin_right) / 12700
    needed, available = text_height(paragraphs, room), (height - holder.margin_top - holder.margin_bottom) / 12700
    if needed > available + TOLERANCE:
        problems.append(f"needs {needed:.0f} points of height and has {available:.0f}: “{frame.text[:40]}”")
    if widest_word(paragraphs) > room + TOLERANCE:
        problems.append(f"holds a word wider than its box: “{frame.text[:40]}”")
    return problems
