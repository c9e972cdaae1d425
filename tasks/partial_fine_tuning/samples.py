"""The images of partial fine-tuning: those of fine-tuning."""

from tasks.classification.samples import LabelledImages

__all__ = ["LabelledImages"]
