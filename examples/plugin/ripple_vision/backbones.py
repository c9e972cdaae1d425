"""What backbench is told: the method, how its files are read, and its encoder. Imported by the entry point."""

from backbones import register_backbone, register_method
from ripple_vision.checkpoints import from_ripple
from ripple_vision.encoder import RippleNet

register_method("Ripple", pretrain_data="photos", convert=from_ripple, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@register_backbone("ripple_net", method="Ripple", model="RippleNet")
def ripple_net(image_size: int | None, drop_path: float) -> RippleNet:
    return RippleNet(drop_path)
