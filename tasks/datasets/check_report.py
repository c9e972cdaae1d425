"""What the check of any data set finds."""

from dataclasses import dataclass, field


@dataclass
class CheckReport:
    """What is in a data set and what is wrong with it. A split that cannot be listed is absent from the counts.

    Attributes:
        layout: which layout, in words.
        kinds: what the set calls its classes: "classes" or "categories".
        classes: their names.
        counts: images in each split.
        annotations: annotations in each split, where an image can have any number of them.
        smallest, largest: name and size of the extreme classes in training; None if nothing there is labelled.
        size_unit: what a class's size counts: "image", "annotation" or "pixel".
        problems: what makes the set unusable, each with the file and, where it can be said, what to do.
        notes: what a reader of the numbers should know.
    """

    layout: str
    kinds: str = "classes"
    classes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    annotations: dict[str, int] = field(default_factory=dict)
    smallest: tuple[str, int] | None = None
    largest: tuple[str, int] | None = None
    size_unit: str = "image"
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def set_extremes(self, sizes: list[int]) -> None:
        """Fill in `smallest` and `largest` from the size of each class; of equal ones the first and the last."""
        by_size = sorted(range(len(sizes)), key=lambda label: (sizes[label], label))
        self.smallest, self.largest = ((self.classes[label], sizes[label]) for label in (by_size[0], by_size[-1]))
