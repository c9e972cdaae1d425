"""Images and label maps: crops to train on and whole images to evaluate on, as segmentation has them."""

from tasks.segmentation.samples import EvaluationSamples, TrainingSamples

__all__ = ["EvaluationSamples", "TrainingSamples"]
