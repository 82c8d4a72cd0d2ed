"""Make ``theme.pptx``, the look of the four talks: ``python slides/theme.py``.

Pandoc brings the slide layouts; this script gives them their places, colours and type. A layout keeps its name, because
pandoc chooses by name: a sentence before a picture or table goes to "Content with Caption", which sets the sentence
as the takeaway below the picture; two columns go to "Two Content".
"""

import re
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pypandoc
from pptx import Presentation
from pptx.dml.color import RGBColor
from pptx.enum.dml import MSO_LINE
from pptx.enum.shapes import MSO_CONNECTOR, MSO_SHAPE
from pptx.enum.text import MSO_ANCHOR
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls, qn
from pptx.util import Inches, Pt

THEME = Path(__file__).with_name("theme.pptx")
INK, TEXT, GREY, PALE, WHITE = "12343B", "1E2B2E", "5F6B6D", "C9D2D3", "FFFFFF"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "0072B2", "E69F00", "009E73", "D55E00", "CC79A7", "56B4E9"
TITLE, BODY = (0.6, 0.12, 12.13, 0.98), (0.6, 1.45, 12.13, 5.3)
FOOT = {"DATE": (0.6, 6.98, 2.5, 0.35), "FOOTER": (3.4, 6.98, 6.53, 0.35), "SLIDE_NUMBER": (10.4, 6.98, 2.33, 0.35)}
CAPTION = {1: (0.6, 1.4, 12.13, 4.6), 2: (0.6, 6.08, 12.13, 0.85)}
LAYOUTS = {
    "Title Slide": {0: (0.6, 0.45, 6.6, 1.4), 1: (0.6, 2.05, 6.6, 1.6)},
    "Title and Content": {0: TITLE, 1: BODY},
    "Section Header": {0: (0.6, 2.9, 12.13, 1.2), 1: (0.6, 4.2, 12.13, 1.2)},
    "Two Content": {0: TITLE, 1: (0.6, 1.45, 7.5, 5.3), 2: (8.4, 1.45, 4.33, 5.3)},
    "Comparison": {0: TITLE, 1: (0.6, 1.4, 7.5, 0.8), 2: (0.6, 2.3, 7.5, 4.45)}
    | {3: (8.4, 1.4, 4.33, 0.8), 4: (8.4, 2.3, 4.33, 4.45)},
    "Title Only": {0: TITLE},
    "Content with Caption": {0: TITLE} | CAPTION,
    "Picture with Caption": {0: TITLE} | CAPTION,
}


def place(shape, box):
    shape.left, shape.top, shape.width, shape.height = map(Inches, box)


def canvas():
    """Shapes can be drawn on a slide only; :func:`move` takes them to a layout."""
    deck = Presentation()
    return deck.slides.add_slide(deck.slide_layouts[6]).shapes


def move(shapes, layout):
    """Put the shapes behind all that the layout holds, and number them anew."""
    tree = layout.shapes._spTree
    for number, shape in enumerate(shapes):
        shape._element.xpath(".//p:cNvPr")[0].set("id", str(1000 + number))
        tree.insert(2 + number, shape._element)


def rectangle(shapes, box, fill, kind=MSO_SHAPE.RECTANGLE):
    shape = shapes.add_shape(kind, *map(Inches, box))
    shape.fill.solid()
    shape.fill.fore_color.rgb = RGBColor.from_string(fill)
    shape.line.fill.background()
    shape.shadow.inherit = False


def style(level, size, colour, bold=False, bullet=True, after=8):
    """Size, colour, bullet and spacing of one paragraph level of a text style."""
    for child in list(level):
        level.remove(child)
    indent = 285750 * (1 + int(re.search(r"lvl(\d)", level.tag)[1]) - 1) if bullet else 0
    level.set("marL", str(indent))
    level.set("indent", str(-285750 if bullet else 0))
    level.set("algn", "l")
    mark = '<a:buFont typeface="Arial"/><a:buChar char="•"/>' if bullet else "<a:buNone/>"
    colour_of_mark = f'<a:buClr><a:srgbClr val="{ORANGE}"/></a:buClr>' if bullet else ""
    size_and_weight = f'sz="{size}00" b="{int(bold)}"'
    pieces = f"""<a:lvl1pPr {nsdecls("a")}>
        <a:spcBef><a:spcPts val="0"/></a:spcBef><a:spcAft><a:spcPts val="{after}00"/></a:spcAft>{colour_of_mark}{mark}
        <a:defRPr {size_and_weight}><a:solidFill><a:srgbClr val="{colour}"/></a:solidFill>
        <a:latin typeface="Arial"/><a:cs typeface="Arial"/></a:defRPr></a:lvl1pPr>"""
    for child in parse_xml(pieces):
        level.append(child)


def own_style(shape, size, colour, bold=False, anchor=MSO_ANCHOR.TOP):
    """A text style of one placeholder of a layout, without bullets."""
    body = shape.text_frame._txBody
    old = body.find(qn("a:lstStyle"))
    new = parse_xml(f"<a:lstStyle {nsdecls('a')}><a:lvl1pPr/></a:lstStyle>")
    style(new[0], size, colour, bold, bullet=False, after=4)
    body.replace(old, new)
    shape.text_frame.vertical_anchor = anchor


def line(shapes, start, end, colour, width, dash=False):
    drawn = shapes.add_connector(MSO_CONNECTOR.STRAIGHT, *map(Inches, (*start, *end)))
    drawn.line.color.rgb, drawn.line.width = RGBColor.from_string(colour), Pt(width)
    drawn.line.dash_style = MSO_LINE.DASH if dash else None


def scene(shapes, box):
    """Eleven views of one person under trees: lines that reach the person, dashed ones that end in a crown."""
    x, y, width, height = box
    ground, person = y + height, (x + 0.64 * width, y + height - 0.08)
    crowns = [(0.16, 0.46, 0.17), (0.42, 0.40, 0.17), (0.9, 0.42, 0.19)]
    for index in range(11):
        start = (x + width * (0.03 + 0.094 * index), y)
        free = index in (3, 4, 6, 7)
        line(shapes, start, person, ORANGE if free else GREY, 1.75 if free else 1, dash=not free)
        rectangle(shapes, (start[0] - 0.07, y - 0.07, 0.14, 0.14), WHITE)
    for place_, top, size in crowns:
        middle = x + place_ * width
        trunk = (middle - 0.05, y + top * height, 0.1, ground - y - top * height)
        rectangle(shapes, trunk, "6B4A2B")
        crown = (middle - size * width / 2, y + (top - 0.16) * height, size * width, 0.42 * height)
        rectangle(shapes, crown, GREEN, MSO_SHAPE.OVAL)
    line(shapes, (x, ground), (x + width, ground), SKY, 2)
    rectangle(shapes, (person[0] - 0.22, ground - 0.15, 0.44, 0.15), RED, MSO_SHAPE.OVAL)


def background(layout):
    fill = layout.background.fill
    fill.solid()
    fill.fore_color.rgb = RGBColor.from_string(INK)


def colours(path):
    """Okabe and Ito's colours as those of the theme, and no dates in the file."""
    accents = dict(zip(range(1, 7), (INK, BLUE, ORANGE, GREEN, RED, PURPLE), strict=True))
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for name in members:
        if name.startswith("ppt/theme/theme"):
            text = members[name].decode()
            for number, colour in accents.items():
                text = re.sub(
                    rf"(<a:accent{number}>).*?(</a:accent{number}>)", rf'\1<a:srgbClr val="{colour}"/>\2', text
                )
            text = re.sub(r"(<a:dk2>).*?(</a:dk2>)", rf'\1<a:srgbClr val="{INK}"/>\2', text)
            text = re.sub(r'(<a:(?:major|minor)Font>\s*<a:latin typeface=")[^"]*', r"\1Arial", text)
            members[name] = text.encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def main():
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder, "reference.pptx")
        command = [pypandoc.get_pandoc_path(), "-o", str(start), "--print-default-data-file", "reference.pptx"]
        subprocess.run(command, check=True)
        deck = Presentation(str(start))
    deck.slide_width, deck.slide_height = Inches(13.333), Inches(7.5)
    master = deck.slide_master
    shapes = canvas()
    rectangle(shapes, (0, 0, 13.333, 1.2), INK)
    rectangle(shapes, (0, 1.2, 13.333, 0.05), ORANGE)
    move(shapes, master)
    styles = master.element.find(qn("p:txStyles"))
    style(styles.find(qn("p:titleStyle"))[0], 27, WHITE, bold=True, bullet=False, after=0)
    for level, size in zip(styles.find(qn("p:bodyStyle")), (24, 20, 18, 18, 18), strict=False):
        style(level, size, TEXT, after=10)
    for slide in (master, *deck.slide_layouts):
        boxes = LAYOUTS.get(slide.name, {}) if slide is not master else {0: TITLE, 1: BODY}
        for shape in slide.placeholders:
            kind = shape.placeholder_format.type.name
            box = boxes.get(shape.placeholder_format.idx) or FOOT.get(kind)
            if box:
                place(shape, box)
            frame = shape.text_frame._txBody.find(qn("a:bodyPr"))
            for child in list(frame):
                frame.remove(child)
            shape.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE if "TITLE" in kind else MSO_ANCHOR.TOP
            if kind in FOOT:
                own_style(shape, 11, GREY)
                shape.text_frame._txBody.find(qn("a:lstStyle"))[0].set("algn", "r" if kind == "SLIDE_NUMBER" else "l")
            elif "TITLE" in kind:
                shape.text_frame._txBody.replace(
                    shape.text_frame._txBody.find(qn("a:lstStyle")), parse_xml(f"<a:lstStyle {nsdecls('a')}/>")
                )
    layouts = {layout.name: layout for layout in deck.slide_layouts}
    for name in ("Title Slide", "Section Header"):
        layout = layouts[name]
        background(layout)
        layout.element.set("showMasterSp", "0")
        first, second = (next(p for p in layout.placeholders if p.placeholder_format.idx == i) for i in (0, 1))
        own_style(first, 38, WHITE, bold=True, anchor=MSO_ANCHOR.BOTTOM)
        own_style(second, 20, PALE)
        date = next(p for p in layout.placeholders if p.placeholder_format.type.name == "DATE")
        own_style(date, 16, PALE)
        place(date, (0.6, 3.62, 6.6, 0.4))
    shapes = canvas()
    rectangle(shapes, (0.7, 1.92, 1.5, 0.06), ORANGE)
    scene(shapes, (7.6, 0.5, 5.1, 3.1))
    move(shapes, layouts["Title Slide"])
    for name in ("Content with Caption", "Picture with Caption", "Comparison"):
        for shape in layouts[name].placeholders:
            if shape.placeholder_format.type.name == "BODY":
                own_style(shape, 22, INK, bold=True, anchor=MSO_ANCHOR.MIDDLE)
    deck.save(str(THEME))
    colours(THEME)


if __name__ == "__main__":
    main()
