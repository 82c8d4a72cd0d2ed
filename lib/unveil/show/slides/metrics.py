"""Advance widths of Arial in thousandths of the type size, so that text is measured alike on every machine.

Read from Liberation Sans, whose widths are Arial's, character by character: printable ASCII, then what else a talk may
need. Kerning is left out, which makes the measure a little too wide, never too narrow.
"""

CHARACTERS = "".join(map(chr, range(32, 127))) + ("\u00a0°±²µ·½ÄÖ×ÜßáäèéóöüŷΣαβγδεθλμπρσφω–’“”•…→∂∇−√∝∞∫≈≠≤≥")
REGULAR = """
    278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278
    278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722
    667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556
    556 333 500 278 556 500 722 500 500 500 334 260 334 584 278 400 549 333 576 278 834 667 778 584 722 611 556
    556 556 556 556 556 556 500 618 578 575 500 557 446 556 500 576 690 569 617 648 781 556 222 333 333 350 1000
    1000 494 365 584 549 365 713 274 549 549 549 549
"""
BOLD = """
    278 333 474 556 556 889 722 238 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 333
    333 584 584 584 611 975 722 722 722 722 667 611 778 722 278 556 722 611 833 722 778 667 778 722 667 611 722
    667 944 667 667 611 333 278 333 584 556 333 556 611 556 611 556 333 611 611 278 278 556 278 889 611 611 611
    611 389 556 333 611 556 778 556 556 500 389 280 389 584 278 400 549 333 576 278 834 722 778 584 722 611 556
    556 556 556 611 611 611 556 600 615 610 556 606 475 541 556 612 766 619 684 715 845 556 278 500 500 350 1000
    1000 494 365 584 549 365 713 274 549 549 549 549
"""
OTHER = 0.8
"""Share of the type size taken for a character that is not in the table."""

WIDTHS = {
    bold: dict(zip(CHARACTERS, (int(width) / 1000 for width in widths.split()), strict=True))
    for bold, widths in ((False, REGULAR), (True, BOLD))
}


def length(text: str, bold: bool) -> float:
    """Width of a text as a multiple of the type size."""
    widths = WIDTHS[bold]
    return sum(widths.get(character, OTHER) for character in text)
