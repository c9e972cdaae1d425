"""A backbone with a classification head, and its layer-wise learning rates.

B images, C classes.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from timm.layers import trunc_normal_
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn

from backbones.contract import frozen_notes, has_timms_head
from backbones.errors import InputError
from backbones.frozen import FrozenBackbone
from backbones.images.pixels import normalise
from backbones.training.precision import Precision, autocast
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.pooled import PooledClassifier

HEAD_STD = 2e-5
"""Standard deviation of the head's first weights (facebookresearch/mae, main_finetune.py)."""


def add_head(backbone: Any, classes: int, pool: Literal["avg", "token"], image_size: int | None = None) -> nn.Module:
    """Turn a backbone into a classifier with `classes` outputs and a head that starts almost at zero.

    With `pool="avg"` a ViT's patch tokens are averaged and then normalised by a fresh LayerNorm, `fc_norm`, in place of
    the encoder's last norm, as MAE's fine-tuning does; with "token" the class token is taken after the encoder's own
    norm. Hierarchical networks keep their own pooling. What is not made as timm's models are becomes a
    `PooledClassifier` for images of `image_size` pixels. Raises InputError where the backbone has no such head.
    """
    if not has_timms_head(backbone):
        return _with_small_head(PooledClassifier(backbone, classes, pool, image_size))
    if pool == "token" and not getattr(backbone, "num_prefix_tokens", 0):
        raise InputError('key "model.pool": "token" needs a backbone with a class token; use "avg"')
    if hasattr(backbone, "fc_norm") and hasattr(backbone, "norm"):
        norm = backbone.norm if isinstance(backbone.fc_norm, nn.Identity) else backbone.fc_norm
        backbone.global_pool = pool
        if pool == "avg":
            backbone.norm, backbone.fc_norm = nn.Identity(), _fresh(norm)
        backbone.reset_classifier(classes)
    else:
        backbone.reset_classifier(classes)
    return _with_small_head(backbone)


def _with_small_head(classifier: Any) -> nn.Module:
    head = classifier.get_classifier()
    head = getattr(head, "fc", head)  # of a head that pools too, such as SAM's encoder has
    if not isinstance(head, nn.Linear):
        several = isinstance(head, tuple | list)
        raise InputError(
            f"{type(classifier).__name__}: its classification head is no linear layer but "
            + ("several, as distillation has them. Use the architecture without" if several else f"a {type(head)}")
        )
    trunc_normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    built: nn.Module = classifier
    return built


def pooling_notes(classifier: nn.Module) -> list[str]:
    """What a reader of the numbers has to know of how features are pooled, and of what does not train, where that is
    not as in timm's models. The backbone of a probe never does."""
    pooling = [classifier.note] if isinstance(classifier, PooledClassifier) else []
    if any(isinstance(each, FrozenBackbone) for each in classifier.children()):
        return pooling
    return [*pooling, *frozen_notes(classifier)]


def _fresh(norm: nn.Module) -> nn.Module:
    assert isinstance(norm, nn.LayerNorm)
    return type(norm)(norm.normalized_shape, eps=norm.eps)


def parameter_groups(classifier: Any, weight_decay: float, layer_decay: float | None) -> list[dict[str, Any]]:
    """The optimizer's groups: no weight decay on 1-D parameters, biases, class token and position embeddings, and a
    learning rate that falls by the factor `layer_decay` from each block to the one before it (MAE, table 9)."""
    undecayed = classifier.no_weight_decay() if hasattr(classifier, "no_weight_decay") else set()
    if layer_decay is None:
        return param_groups_weight_decay(classifier, weight_decay, no_weight_decay_list=undecayed)
    return param_groups_layer_decay(classifier, weight_decay, no_weight_decay_list=undecayed, layer_decay=layer_decay)


class ClassificationStep(BaseModel):
    """The classifier as mmengine's loops want it: a batch of bytes in, the loss or each image's result out."""

    barred: Tensor | None

    def __init__(self, network: nn.Module, augmentation: BatchAugmentation, precision: Precision) -> None:
        super().__init__(BaseDataPreprocessor(non_blocking=True))
        self.network, self.augmentation, self.precision = network, augmentation, precision
        self.register_buffer("barred", None, persistent=False)

    def answer_among(self, candidates: Sequence[int], classes: int) -> None:
        """Take only these of the classes for an answer: their probabilities sum to one."""
        self.barred = torch.ones(classes, dtype=torch.bool)
        self.barred[list(candidates)] = False

    def init_weights(self) -> None:
        """Leave the weights as they are: they were loaded or initialised with the backbone."""

    def forward(
        self, images: Tensor, labels: Tensor, mode: str, accepted: Tensor | None = None, **about: object
    ) -> Any:
        """images: uint8 (B, 3, H, W), labels: (B,). Gives `{"loss": …}`, or for "predict" [`predict`'s dict]."""
        if mode == "predict":
            return [self.predict(images, labels, accepted)]
        inputs, targets_BC = self.augmentation(images, labels)
        logits_BC = self.network(inputs).float()
        return {"loss": -(targets_BC * F.log_softmax(logits_BC, dim=1)).sum(1).mean()}

    def logits(self, images: Tensor) -> Tensor:
        """What the network makes of images, uint8 (B, 3, H, W), in single precision: (B, C).

        Of classes that are no answer -inf.
        """
        with autocast(self.precision, images.device.type):
            logits_BC: Tensor = self.network(normalise(images, self.augmentation.normalisation))
        logits_BC = logits_BC.float()
        return logits_BC if self.barred is None else logits_BC.masked_fill(self.barred, -torch.inf)

    def predict(self, images: Tensor, labels: Tensor, accepted: Tensor | None = None) -> dict[str, Tensor]:
        """Each image's label, prediction, the probability given to that, cross-entropy, and whether the label is among
        the first one and five.

        accepted: (B, K), the classes of which each is right, -1 where there are fewer; the label is then the one that
                  was predicted, where that is among them
        """
        logits_BC = self.logits(images)
        best = logits_BC.topk(min(5, logits_BC.shape[1]), dim=1).indices
        if accepted is None:
            hit = best == labels[:, None]
        else:
            hit = (best[:, :, None] == accepted[:, None, :]).any(2)
            labels = torch.where(hit[:, 0], best[:, 0], labels)
        return {
            "labels": labels,
            "predictions": best[:, 0],
            "confidences": logits_BC.softmax(1).amax(1),
            "top1": hit[:, 0],
            "top5": hit.any(1),
            "loss": F.cross_entropy(logits_BC, labels, reduction="none"),
        }
