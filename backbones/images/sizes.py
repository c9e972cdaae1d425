"""How the size of an image is put into words."""


def in_words(height: int, width: int) -> str:
    """Width × height, as people say it, whatever the order of arrays: `640 × 480`."""
    return f"{width} × {height}"
