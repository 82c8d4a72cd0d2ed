"""The one design of all decks: a page with title bar, fitted text, native tables, charts and diagrams, notes.

Positions are (x, y, width, height) in inches on a 13.333 × 7.5 inch page, type sizes in points. Text understands
a small markup: ``**bold**``, ``_{subscript}``, ``^{superscript}``. Type is measured with the widths of Arial, so that
what fits here fits in PowerPoint and, with Liberation Sans, in LibreOffice. Colours are those of Okabe and Ito, told
apart by colour-blind readers.
"""

import datetime
import io
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from pptx import Presentation
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.dml.color import RGBColor
from pptx.enum.chart import XL_CHART_TYPE, XL_LABEL_POSITION, XL_LEGEND_POSITION, XL_MARKER_STYLE
from pptx.enum.dml import MSO_LINE
from pptx.enum.shapes import MSO_CONNECTOR, MSO_SHAPE
from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls, qn
from pptx.util import Emu, Inches, Pt

from .metrics import length

Box = tuple[float, float, float, float]

WIDTH, HEIGHT = 13.333, 7.5
BODY: Box = (0.6, 1.3, 12.13, 5.45)
FONT = "Arial"
LINE = 1.2
MARGIN = 0.05
CELL_MARGIN = 0.09
ROUNDING = 0.08
DATE = datetime.datetime(2024, 1, 1)

INK = "12343B"
TEXT = "1E2B2E"
GREY = "5F6B6D"
RULE = "C9D2D3"
PALE = "EEF3F3"
WHITE = "FFFFFF"
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "0072B2", "E69F00", "009E73", "D55E00", "56B4E9", "CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_MARKERS = (
    XL_MARKER_STYLE.CIRCLE,
    XL_MARKER_STYLE.SQUARE,
    XL_MARKER_STYLE.TRIANGLE,
    XL_MARKER_STYLE.DIAMOND,
    XL_MARKER_STYLE.X,
    XL_MARKER_STYLE.PLUS,
)
_ALIGN = {"left": PP_ALIGN.LEFT, "center": PP_ALIGN.CENTER, "right": PP_ALIGN.RIGHT}
_ANCHOR = {"top": MSO_ANCHOR.TOP, "middle": MSO_ANCHOR.MIDDLE, "bottom": MSO_ANCHOR.BOTTOM}


@dataclass(frozen=True)
class Chunk:
    """A piece of text in one style; ``shift`` is −1 for a subscript, +1 for a superscript."""

    text: str
    size: float
    bold: bool = False
    shift: int = 0


@dataclass(frozen=True)
class Measured:
    """A paragraph as it will be set: chunks, left indent and space after, both in points."""

    chunks: tuple[Chunk, ...]
    indent: float = 0.0
    after: float = 0.0

    @property
    def size(self) -> float:
        return max((c.size for c in self.chunks), default=16.0)


_NUMERIC = re.compile(r"[−–\d.,()/% ]*(?: ?(?:dB|px|ms|m|s|min|h))?")
_UNIT = re.compile(r"(?<=\d) (?=(?:%|dB|px|ms|K|m|s|min|h)(?![\w/]))")
_BREAKS = re.compile(r"[ \t\n]+|[^ \t\n-]+-?|-")
_MARKUP = re.compile(r"\*\*(?P<bold>.+?)\*\*|_\{(?P<sub>.+?)\}|\^\{(?P<sup>.+?)\}")


def chunks(markup: str, size: float, bold: bool = False) -> tuple[Chunk, ...]:
    """Text with markup as styled chunks; a number stays with its unit."""
    markup = _UNIT.sub("\u00a0", markup)
    out, end = [], 0
    for match in _MARKUP.finditer(markup):
        if match.start() > end:
            out.append(Chunk(markup[end : match.start()], size, bold))
        if match["bold"]:
            out += chunks(match["bold"], size, True)
        else:
            out.append(Chunk(match["sub"] or match["sup"], size, bold, -1 if match["sub"] else 1))
        end = match.end()
    if end < len(markup) or not out:
        out.append(Chunk(markup[end:], size, bold))
    return tuple(out)


def _width(chunk: Chunk) -> float:
    return length(chunk.text, chunk.bold) * chunk.size * (0.66 if chunk.shift else 1.0)


def count_lines(paragraph: Measured, width: float) -> int:
    """Number of lines of a paragraph set into ``width`` points (greedy, as office programs break lines)."""
    available = width - paragraph.indent
    lines, used, word = 1, 0.0, 0.0
    for chunk in paragraph.chunks:
        for piece in _BREAKS.findall(chunk.text):
            length = _width(Chunk(piece, chunk.size, chunk.bold, chunk.shift))
            if piece.strip(" \t\n") == "":
                used, word = used + word + length, 0.0
            else:
                word += length
                if used + word > available and used > 0:
                    lines, used = lines + 1, 0.0
    return lines + int(word // available) if word > available else lines


def text_height(paragraphs: Iterable[Measured], width: float) -> float:
    """Height in points of paragraphs set into ``width`` points."""
    paragraphs = list(paragraphs)
    total = sum(count_lines(p, width) * p.size * LINE + p.after for p in paragraphs)
    return total - (paragraphs[-1].after if paragraphs else 0.0)


def widest_word(paragraphs: Iterable[Measured]) -> float:
    """Width in points of the longest unbreakable piece of text, indent included."""
    return max(
        (
            _width(Chunk(piece, c.size, c.bold, c.shift)) + p.indent
            for p in paragraphs
            for c in p.chunks
            for piece in _BREAKS.findall(c.text)
        ),
        default=0.0,
    )


def inset(kind: MSO_SHAPE | None, width: float, height: float) -> float:
    """How far, in inches, the text area of an autoshape lies inside its outline on each side."""
    if kind == MSO_SHAPE.ROUNDED_RECTANGLE:
        return 0.3 * min(ROUNDING, min(width, height) / 2)
    return 0.15 * min(width, height) if kind == MSO_SHAPE.OVAL else 0.0


def _flat(shape) -> None:
    """No shadow, whatever the theme says."""
    style = shape._element.find(qn("p:style"))
    if style is not None:
        style.find(qn("a:effectRef")).set("idx", "0")


def _rgb(colour: str) -> RGBColor:
    return RGBColor.from_string(colour)


def _write(paragraph, pieces: Iterable[Chunk], colour: str, italic: bool = False) -> None:
    for piece in pieces:
        run = paragraph.add_run()
        run.text = piece.text
        run.font.name, run.font.size, run.font.bold, run.font.italic = FONT, Pt(piece.size), piece.bold, italic
        run.font.color.rgb = _rgb(colour)
        if piece.shift:
            run.font._element.set("baseline", "-25000" if piece.shift < 0 else "30000")


def _frame(frame, anchor: str, margin: float) -> None:
    frame.word_wrap, frame.auto_size = True, MSO_AUTO_SIZE.NONE
    frame.vertical_anchor = _ANCHOR[anchor]
    frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = Inches(margin)


def _fit(measure: Callable[[float], list[Measured]], box: Box, size: float, smallest: float, margin: float) -> float:
    """The largest size, in half points from ``size`` down to ``smallest``, at which the text fits into the box."""
    width, height = (box[2] - 2 * margin) * 72, (box[3] - 2 * margin) * 72
    while size > smallest:
        paragraphs = measure(size)
        if text_height(paragraphs, width) <= height and widest_word(paragraphs) <= width:
            break
        size -= 0.5
    return max(size, smallest)


@dataclass
class Page:
    """One slide and the ways to put things on it."""

    slide: object
    deck: "Deck"

    def text(
        self,
        box: Box,
        paragraphs: str | Sequence[str],
        size: float = 20,
        smallest: float = 16,
        colour: str = TEXT,
        bold: bool = False,
        italic: bool = False,
        align: str = "left",
        anchor: str = "top",
        bullets: bool = False,
        gap: float = 0.4,
    ) -> None:
        """Text in a box, at ``size`` or as much smaller as it must be to fit; ``gap`` is the space after, in lines."""
        items = [paragraphs] if isinstance(paragraphs, str) else list(paragraphs)

        def measure(points: float) -> list[Measured]:
            indent = 0.95 * points if bullets else 0.0
            return [Measured(chunks(item, points, bold), indent, gap * points) for item in items]

        points = _fit(measure, box, size, smallest, MARGIN)
        if bullets:
            room = 0.85 * box[3] * 72
            while gap < 1.1 and text_height(measure(points), (box[2] - 2 * MARGIN) * 72) < room:
                gap += 0.1
            gap -= 0.1 if text_height(measure(points), (box[2] - 2 * MARGIN) * 72) > (box[3] - 2 * MARGIN) * 72 else 0.0
        frame = self.slide.shapes.add_textbox(*(Inches(v) for v in box)).text_frame
        _frame(frame, anchor, MARGIN)
        for index, item in enumerate(measure(points)):
            paragraph = frame.paragraphs[0] if index == 0 else frame.add_paragraph()
            paragraph.alignment, paragraph.space_after = _ALIGN[align], Pt(round(item.after, 1))
            if bullets:
                properties = paragraph._p.get_or_add_pPr()
                properties.set("marL", str(Pt(item.indent)))
                properties.set("indent", str(-Pt(item.indent)))
                properties.append(parse_xml(f'<a:buClr {nsdecls("a")}><a:srgbClr val="{RED}"/></a:buClr>'))
                properties.append(parse_xml(f'<a:buFont {nsdecls("a")} typeface="Arial"/>'))
                properties.append(parse_xml(f'<a:buChar {nsdecls("a")} char="•"/>'))
            _write(paragraph, item.chunks, colour, italic)

    def bullets(
        self, box: Box, items: Sequence[str], size: float = 22, smallest: float = 16, gap: float = 0.55
    ) -> None:
        """A list, spread with as much air as the box has."""
        self.text(box, items, size, smallest, bullets=True, gap=gap)

    def equation(self, box: Box, markup: str, size: float = 24) -> None:
        """An equation as text on a pale ground."""
        self.shape(box, markup, PALE, colour=INK, size=size, smallest=16, kind="rectangle", line=None)

    def shape(
        self,
        box: Box,
        text: str = "",
        fill: str | None = PALE,
        colour: str = TEXT,
        size: float = 18,
        smallest: float = 14,
        bold: bool = False,
        kind: str = "round",
        line: str | None = None,
        dash: bool = False,
        transparent: float = 0.0,
    ):
        """A native shape with centred text: ``round``, ``rectangle``, ``oval`` or ``right`` (an arrow)."""
        kinds = {
            "round": MSO_SHAPE.ROUNDED_RECTANGLE,
            "rectangle": MSO_SHAPE.RECTANGLE,
            "oval": MSO_SHAPE.OVAL,
            "right": MSO_SHAPE.RIGHT_ARROW,
        }
        shape = self.slide.shapes.add_shape(kinds[kind], *(Inches(v) for v in box))
        _flat(shape)
        if kind == "round":
            shape.adjustments[0] = min(ROUNDING / min(box[2], box[3]), 0.5)
        if fill is None:
            shape.fill.background()
        else:
            shape.fill.solid()
            shape.fill.fore_color.rgb = _rgb(fill)
            if transparent:
                colour_element = shape.fill._xPr.find(qn("a:solidFill"))[0]
                colour_element.append(parse_xml(f'<a:alpha {nsdecls("a")} val="{round((1 - transparent) * 100000)}"/>'))
        if line is None:
            shape.line.fill.background()
        else:
            shape.line.color.rgb, shape.line.width = _rgb(line), Pt(1.5)
            if dash:
                shape.line.dash_style = MSO_LINE.DASH
        if text:
            items = text.split("\n")

            def measure(points: float) -> list[Measured]:
                return [Measured(chunks(item, points, bold)) for item in items]

            points = _fit(measure, box, size, smallest, MARGIN + inset(kinds[kind], box[2], box[3]))
            _frame(shape.text_frame, "middle", MARGIN)
            for index, item in enumerate(measure(points)):
                paragraph = shape.text_frame.paragraphs[0] if index == 0 else shape.text_frame.add_paragraph()
                paragraph.alignment = PP_ALIGN.CENTER
                _write(paragraph, item.chunks, colour)
        return shape

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = GREY,
        width: float = 1.75,
        head: bool = False,
        dash: bool = False,
    ) -> None:
        """A straight line, with an arrow head at its end if asked."""
        connector = self.slide.shapes.add_connector(MSO_CONNECTOR.STRAIGHT, *(Inches(v) for v in (*start, *end)))
        _flat(connector)
        connector.line.color.rgb, connector.line.width = _rgb(colour), Pt(width)
        if dash:
            connector.line.dash_style = MSO_LINE.DASH
        if head:
            connector.line._get_or_add_ln().append(
                parse_xml(f'<a:tailEnd {nsdecls("a")} type="triangle" w="med" len="med"/>')
            )

    def card(self, box: Box, heading: str, items: Sequence[str], colour: str = BLUE, size: float = 18) -> None:
        """A pale panel with a coloured edge, a heading and a list."""
        x, y, width, height = box
        self.shape(box, fill=PALE, kind="rectangle")
        self.shape((x, y, 0.09, height), fill=colour, kind="rectangle")
        self.text((x + 0.25, y + 0.12, width - 0.4, 0.5), heading, 20, 16, INK, bold=True, anchor="middle")
        self.text((x + 0.25, y + 0.68, width - 0.45, height - 0.78), items, size, 16, bullets=True, gap=0.4)

    def figures(self, box: Box, name: str, caption: str) -> bool:
        """The figure of that name with its caption, or a plain word that it is absent; True when it is there."""
        path = self.deck.figure(name)
        if path is None:
            self.missing(box, f"figures/{name}.png")
            return False
        self.picture((box[0], box[1], box[2], box[3] - 0.5), path, caption)
        return True

    def picture(self, box: Box, path: Path, caption: str = "") -> None:
        """A picture as large as the box allows, its caption right below it (in the half inch below the box)."""
        with Image.open(path) as image:
            ratio = image.width / image.height
        width = min(box[2], box[3] * ratio)
        height = width / ratio
        x, y = box[0] + (box[2] - width) / 2, box[1] + (box[3] - height) / 2
        shape = self.slide.shapes.add_picture(str(path), Inches(x), Inches(y), Inches(width), Inches(height))
        shape._element._nvXxPr.cNvPr.set("descr", caption)
        if caption:
            self.text((box[0], y + height + 0.02, box[2], 0.48), caption, 14, 12, GREY, align="center")

    def table(
        self,
        box: Box,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float] | None = None,
        highlight: Sequence[int] = (),
        size: float = 18,
        smallest: float = 12,
    ) -> float:
        """A native table; columns of numbers are centred, the others flush left. Returns its height in inches."""
        everything = [list(header), *[list(row) for row in rows]]
        shares = list(widths or [1.0] * len(header))
        columns = [box[2] * share / sum(shares) for share in shares]
        centred = [index > 0 and all(_NUMERIC.fullmatch(row[index]) for row in rows) for index in range(len(header))]

        def heights(points: float) -> list[float]:
            out = []
            for number, row in enumerate(everything):
                bold = number == 0 or number - 1 in highlight
                cells = [[Measured(chunks(line, points, bold)) for line in cell.split("\n")] for cell in row]
                out.append(
                    max(
                        text_height(cell, (width - 2 * CELL_MARGIN) * 72) / 72
                        for cell, width in zip(cells, columns, strict=True)
                    )
                    + 0.12
                )
            return out

        def fits(points: float) -> bool:
            words = all(
                widest_word([Measured(chunks(cell, points, True))]) / 72 <= width - 2 * CELL_MARGIN
                for row in everything
                for cell, width in zip(row, columns, strict=True)
            )
            return words and sum(heights(points)) <= box[3]

        points = size
        while points > smallest and not fits(points):
            points -= 0.5
        needed = heights(points)
        air = min(0.24, max(0.0, box[3] - sum(needed)) / len(needed))
        shape = self.slide.shapes.add_table(
            len(everything), len(header), *(Inches(v) for v in (*box[:3], sum(needed) + air * len(needed)))
        )
        table = shape.table
        table.horz_banding = False
        for column, width in zip(table.columns, columns, strict=True):
            column.width = Inches(width)
        for number, row in enumerate(everything):
            table.rows[number].height = Emu(Inches(needed[number] + air))
            marked = number - 1 in highlight
            for index, value in enumerate(row):
                cell = table.cell(number, index)
                cell.margin_left = cell.margin_right = Inches(CELL_MARGIN)
                cell.margin_top = cell.margin_bottom = Inches(0.04)
                cell.vertical_anchor = MSO_ANCHOR.MIDDLE
                cell.fill.solid()
                cell.fill.fore_color.rgb = _rgb(
                    INK if number == 0 else "FFE9BF" if marked else PALE if number % 2 else WHITE
                )
                for line_number, line in enumerate(value.split("\n")):
                    paragraph = cell.text_frame.paragraphs[0] if line_number == 0 else cell.text_frame.add_paragraph()
                    paragraph.alignment = PP_ALIGN.CENTER if centred[index] else PP_ALIGN.LEFT
                    _write(paragraph, chunks(line, points, number == 0 or marked), WHITE if number == 0 else TEXT)
        return sum(needed) + air * len(needed)

    def bars(
        self,
        box: Box,
        categories: Sequence[str],
        series: Mapping[str, Sequence[float | None]],
        value_title: str,
        number_format: str = "0.0",
        labels: bool = True,
        horizontal: bool = False,
    ) -> None:
        """A native bar chart, one colour per series."""
        data = CategoryChartData(number_format=number_format)
        data.categories = list(categories)
        for name, values in series.items():
            data.add_series(name, list(values))
        kind = XL_CHART_TYPE.BAR_CLUSTERED if horizontal else XL_CHART_TYPE.COLUMN_CLUSTERED
        chart = self._chart(kind, box, data, len(series) > 1, None, value_title)
        plot = chart.plots[0]
        plot.gap_width, plot.overlap = (70 if len(series) > 1 else 60), -5
        for index, item in enumerate(plot.series):
            item.format.fill.solid()
            item.format.fill.fore_color.rgb = _rgb(PALETTE[index % len(PALETTE)])
            item.invert_if_negative = False
        if labels:
            plot.has_data_labels = True
            plot.data_labels.number_format, plot.data_labels.number_format_is_linked = number_format, False
            plot.data_labels.font.size, plot.data_labels.position = Pt(12), XL_LABEL_POSITION.OUTSIDE_END
        if horizontal:
            chart.category_axis.reverse_order = True

    def curves(
        self,
        box: Box,
        series: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
        x_title: str,
        y_title: str,
        number_format: str = "General",
        markers: bool = True,
    ) -> None:
        """A native chart of curves: name → (x values, y values); points without a value are left out."""
        data = XyChartData(number_format=number_format)
        for name, (xs, ys) in series.items():
            line = data.add_series(name)
            for x, y in zip(xs, ys, strict=True):
                if y is not None:
                    line.add_data_point(x, y)
        chart = self._chart(XL_CHART_TYPE.XY_SCATTER_LINES, box, data, len(series) > 1, x_title, y_title)
        chart.value_axis.tick_labels.number_format, chart.value_axis.tick_labels.number_format_is_linked = (
            number_format,
            False,
        )
        xs = [x for values, _ in series.values() for x in values]
        ys = [y for _, values in series.values() for y in values if y is not None]
        chart.category_axis.minimum_scale, chart.category_axis.maximum_scale = min(0, *xs), max(xs)
        if ys and min(ys) > 0.5 * max(ys) and max(ys) > min(ys):
            step = 10 ** math.floor(math.log10(max(ys) - min(ys)))
            chart.value_axis.minimum_scale = math.floor(min(ys) / step) * step
        for index, item in enumerate(chart.plots[0].series):
            colour = _rgb(PALETTE[index % len(PALETTE)])
            item.smooth = False
            item.format.line.color.rgb, item.format.line.width = colour, Pt(2.5)
            item.marker.style = _MARKERS[index % len(_MARKERS)] if markers else XL_MARKER_STYLE.NONE
            if markers:
                item.marker.size = 7
                item.marker.format.fill.solid()
                item.marker.format.fill.fore_color.rgb = colour
                item.marker.format.line.color.rgb = colour

    def _chart(self, kind, box: Box, data, legend: bool, x_title: str | None, y_title: str):
        chart = self.slide.shapes.add_chart(kind, *(Inches(v) for v in box), data).chart
        chart.font.size, chart.font.name, chart.font.color.rgb = Pt(14), FONT, _rgb(TEXT)
        chart.has_title, chart.has_legend = False, legend
        if legend:
            chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.BOTTOM, False
        for axis, title in ((chart.category_axis, x_title), (chart.value_axis, y_title)):
            axis.format.line.color.rgb = _rgb(RULE)
            if title:
                axis.has_title = True
                run = axis.axis_title.text_frame.paragraphs[0].add_run()
                run.text, run.font.size, run.font.bold = title, Pt(14), False
        chart.category_axis.has_major_gridlines = False
        chart.value_axis.has_major_gridlines = True
        chart.value_axis.major_gridlines.format.line.color.rgb = _rgb(RULE)
        return chart

    def missing(self, box: Box, what: str) -> None:
        """Say plainly that something was not there when the deck was built, and remember it for the report."""
        if what not in self.deck.absent:
            self.deck.absent.append(what)
        self.shape(
            box,
            f"Not available when this deck was built:\n**{what}**\n“make run” makes it, “make slides” rebuilds "
            f"the deck.",
            fill=WHITE,
            colour=GREY,
            line=GREY,
            dash=True,
            size=18,
            kind="rectangle",
        )

    def scene(self, box: Box, dark: bool = False, labels: bool = True) -> None:
        """The idea of the synthetic aperture: views on a line, one ground point, leaves that hide it from some."""
        x, y, width, height = box
        ground, sky, count = y + height - 0.55, y + 0.35, 11
        target = (x + 0.54 * width, ground - 0.05)
        crowns = [(0.08, 0.58, 0.20, 0.22), (0.30, 0.45, 0.17, 0.26), (0.74, 0.52, 0.21, 0.26)]

        def hidden(camera_x: float) -> bool:
            for cx, cy, w, h in crowns:
                centre_x, centre_y = x + cx * width + w * width / 2, y + cy * height
                for step in range(60):
                    t = step / 59
                    px, py = camera_x + t * (target[0] - camera_x), sky + 0.15 + t * (target[1] - sky - 0.15)
                    if ((px - centre_x) / (w * width / 2)) ** 2 + ((py - centre_y) / (h * height / 2)) ** 2 < 1:
                        return True
            return False

        self.line((x, ground), (x + width, ground), SKY if dark else GREY, 2.5)
        places = [x + 0.25 + (width - 0.5) * i / (count - 1) for i in range(count)]
        for place in places:
            blocked = hidden(place)
            self.line(
                (place, sky + 0.15),
                target,
                (GREY if dark else RULE) if blocked else ORANGE,
                1.25 if blocked else 2.0,
                dash=blocked,
            )
        for cx, cy, w, h in crowns:
            left, top = x + cx * width, y + (cy - h / 2) * height
            middle = left + w * width / 2
            self.shape(
                (middle - 0.05, top + h * height * 0.8, 0.1, ground - top - h * height * 0.8),
                fill="6B4E2E",
                kind="rectangle",
            )
            self.shape((left, top, w * width, h * height), fill=GREEN, kind="oval", transparent=0.25)
        for place in places:
            self.shape((place - 0.11, sky - 0.05, 0.22, 0.2), fill=WHITE if dark else INK, kind="rectangle")
        self.shape((target[0] - 0.3, target[1] - 0.09, 0.6, 0.18), fill=RED, kind="oval")
        if labels:
            ink = WHITE if dark else TEXT
            self.text(
                (x, y - 0.12, width, 0.38),
                "11 views along the flight = one synthetic aperture",
                16,
                14,
                ink,
                align="center",
            )
            self.text(
                (x, ground + 0.08, width, 0.42),
                "a person on the ground, seen by some of the views",
                16,
                14,
                ink,
                align="center",
            )


@dataclass
class Deck:
    """A presentation under construction; ``absent`` collects what was not there to be shown."""

    name: str
    figures_folder: Path | None = None
    absent: list[str] = field(default_factory=list)
    used_figures: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._presentation = Presentation()
        self._presentation.slide_width, self._presentation.slide_height = Inches(WIDTH), Inches(HEIGHT)
        layouts = self._presentation.slide_layouts
        self._layout = layouts.get_by_name("Title Only")
        for layout in list(layouts):
            if layout is not self._layout:
                layouts.remove(layout)
        for placeholder in list(self._layout.placeholders):
            if placeholder.placeholder_format.idx:
                placeholder._element.getparent().remove(placeholder._element)
        title = self._layout.placeholders[0]
        title.left, title.top, title.width, title.height = Emu(0), Emu(0), Inches(WIDTH), Inches(0.95)
        title.fill.solid()
        title.fill.fore_color.rgb = _rgb(INK)

    def __len__(self) -> int:
        return len(self._presentation.slides)

    def figure(self, name: str) -> Path | None:
        """The stored figure of that name, or None."""
        path = None if self.figures_folder is None else self.figures_folder / f"{name}.png"
        if path is None or not path.is_file():
            return None
        self.used_figures[name] = path
        return path

    def cover(self, title: str, subtitle: str, notes: str) -> Page:
        """The first page: dark ground, large type, the scene drawn at the right."""
        page = self._page(notes)
        page.slide.background.fill.solid()
        page.slide.background.fill.fore_color.rgb = _rgb(INK)
        page.scene((7.3, 1.3, 5.5, 5.0), dark=True)
        self._title(page, title, (0.6, 1.7, 6.3, 2.3), 40, "bottom")
        page.shape((0.65, 4.2, 1.6, 0.07), fill=ORANGE, kind="rectangle")
        page.text((0.6, 4.45, 6.2, 1.9), subtitle.split("\n"), 22, 16, "DCE7E7")
        return page

    def page(self, title: str, notes: str, source: str = "") -> Page:
        """A page with the title bar, its number, and where its content comes from."""
        page = self._page(notes)
        self._title(page, title, (0.0, 0.0, WIDTH, 0.95), 30, "middle")
        page.shape((0, 0.95, WIDTH, 0.06), fill=ORANGE, kind="rectangle")
        if source:
            page.text((0.6, 6.98, 10.6, 0.36), source, 12, 12, GREY, anchor="middle")
        number = page.slide.shapes.add_textbox(Inches(12.0), Inches(6.98), Inches(0.73), Inches(0.36))
        _frame(number.text_frame, "middle", MARGIN)
        paragraph = number.text_frame.paragraphs[0]
        paragraph.alignment = PP_ALIGN.RIGHT
        paragraph._p.append(
            parse_xml(
                f'<a:fld {nsdecls("a")} id="{{B6F15528-21DE-4FAA-801E-634DDDAF4B2B}}" type="slidenum"><a:rPr '
                f'lang="en-GB" sz="1400">'
                f'<a:solidFill><a:srgbClr val="{GREY}"/></a:solidFill><a:latin '
                f'typeface="{FONT}"/></a:rPr><a:t>{len(self)}</a:t></a:fld>'
            )
        )
        return page

    def _page(self, notes: str) -> Page:
        slide = self._presentation.slides.add_slide(self._layout)
        slide.notes_slide.notes_text_frame.text = " ".join(notes.split())
        return Page(slide, self)

    def _title(self, page: Page, title: str, box: Box, size: float, anchor: str) -> None:
        shape = page.slide.shapes.title
        shape.left, shape.top, shape.width, shape.height = (Inches(v) for v in box)
        bar = anchor == "middle"
        _frame(shape.text_frame, anchor, MARGIN)
        margin = 0.6 if bar else MARGIN
        shape.text_frame.margin_left = shape.text_frame.margin_right = Inches(margin)
        points = _fit(lambda p: [Measured(chunks(title, p, True))], box, size, 20, margin if not bar else 0.1)
        while bar and _width(Chunk(title, points, True)) > (WIDTH - 2 * margin) * 72 and points > 20:
            points -= 0.5
        paragraph = shape.text_frame.paragraphs[0]
        paragraph.alignment = PP_ALIGN.LEFT
        _write(paragraph, chunks(title, points, True), WHITE)

    def save(self, path: Path) -> Path:
        """Write the deck, the same bytes for the same content; nothing half-written under the final name."""
        properties = self._presentation.core_properties
        properties.title, properties.author, properties.last_modified_by = self.name, "unveil", "unveil"
        properties.created = properties.modified = DATE
        properties.revision = 1
        buffer = io.BytesIO()
        self._presentation.save(buffer)
        write_whole(path, _undated(buffer.getvalue()))
        return path


def _undated(data: bytes) -> bytes:
    """The same ZIP with fixed dates, the workbooks behind the charts included."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith(".xlsx"):
                content = _undated(content)
            elif info.filename == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", f"{DATE:%Y-%m-%dT%H:%M:%SZ}".encode(), content)
            target.writestr(zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
