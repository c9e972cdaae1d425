"""How a backbone is judged: each task fine-tunes it on one data set under one recipe and gives back metrics."""

import logging
import warnings

# detectron2 is older than today's PyTorch, which warns of calls that work as they did.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
# So is timm's interpolation of relative positions.
warnings.filterwarnings("ignore", "torch.searchsorted", UserWarning)
warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
# mmsegmentation advises against what its own configurations for ADE20K do.
warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False", UserWarning)
