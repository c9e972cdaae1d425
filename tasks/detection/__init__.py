"""Object detection and instance segmentation: Mask R-CNN on COCO-format sets, with any backbone as its trunk."""

import logging
import warnings

# detectron2 is older than today's PyTorch, which warns of calls that work as they did.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
