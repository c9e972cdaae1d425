"""Write random weights in the form of Ripple's files, to try the plug-in with: python -m ripple_vision FILE.pth"""

import sys

import torch

from ripple_vision.checkpoints import as_released
from ripple_vision.encoder import RippleNet

torch.save({"model": as_released(RippleNet()), "epoch": 100}, sys.argv[1])
