"""The one door to torchvision: everything that needs its datasets, models or transforms imports it from here.

Some builds of torchvision come without their compiled operators for the installed torch. Importing such a build fails
while it describes the shapes of ``nms`` and ``qnms``, which classification never calls. Declaring the two operators
without an implementation lets the import pass; a call to one of them still fails, as it should.
"""

from __future__ import annotations

from types import ModuleType

import torch

_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# Dropping a Library takes its declarations back, so each is kept as long as the process lives.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, with or without its compiled operators.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_missing_operators()
        import torchvision
    module: ModuleType = torchvision
    return module


def _declare_missing_operators() -> None:
    for name, schema in _OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(schema)  # type: ignore[no-untyped-call]
            _declared.append(library)
