"""Pictures of several panels, and what is written into them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
HEADER = 24
FONT = ImageFont.load_default(size=14)


def arrange(panels: Sequence[Sequence[np.ndarray]], titles: Sequence[str], heading: str = "") -> Image.Image:
    """Put panels, uint8 (H, W, 3), into rows below the titles of their columns, and these below the heading, if any.

    panels: at least one row, each with as many as there are titles. All columns are as wide as the widest panel or
    title, so that none runs into the next.
    """
    above = HEADER if heading else 0
    width = max(panel.shape[1] for row in panels for panel in row)
    width = max(width, *(round(FONT.getlength(title)) for title in titles))
    heights = [max(panel.shape[0] for panel in row) for row in panels]
    across = max(len(titles) * (width + MARGIN) + MARGIN, 2 * MARGIN + round(FONT.getlength(heading)))
    size = (across, above + HEADER + sum(heights) + MARGIN * len(heights))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 4), heading, fill="black", font=FONT)
    for column, title in enumerate(titles):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, above + 4), title, fill="black", font=FONT)
        top = above + HEADER
        for row, height in zip(panels, heights, strict=True):
            picture.paste(Image.fromarray(row[column]), (left, top))
            top += height + MARGIN
    return picture


def shorten(name: str, room: float) -> str:
    """As much of the name as fits into so many pixels."""
    short = name
    while FONT.getlength(short) > room:
        name = name[:-1]
        short = f"{name}…"
    return short
