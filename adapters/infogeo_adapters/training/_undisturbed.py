"""A model that trains, measured in between: compiled code and what transformers sets on it stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CAPTURING = "transformers.utils.output_capturing"
"""Where hooks come from that transformers leaves on a model which was once asked for its attention or states."""

INSTALLED = "_output_capturing_hooks_installed"
"""What transformers sets on a model that has them."""


@contextlib.contextmanager
def undisturbed(net: torch.nn.Module) -> Iterator[None]:
    """Run compiled parts of a model as they were written, and take away what transformers leaves on it.

    So hooks are heard that are set meanwhile, and nothing is compiled for them. The hooks of transformers, which cannot
    be pickled, would keep training from saving the model as a whole.
    """
    import torch

    before = {id(hook) for _, _, hook in _capturing(net)}
    there = {id(module) for module in net.modules() if vars(module).get(INSTALLED)}
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        new = [module for module in net.modules() if vars(module).get(INSTALLED) and id(module) not in there]
        for module in new:
            delattr(module, INSTALLED)
        for owner, key, hook in _capturing(net) if new else []:
            if id(hook) not in before:
                del owner._forward_hooks[key]


def _capturing(net: torch.nn.Module) -> list[tuple[Any, int, Any]]:
    """Modules, keys and hooks of transformers that read off attention and states."""
    return [
        (module, key, hook) for module in net.modules() for key, hook in module._forward_hooks.items()
        if getattr(hook, "__module__", "") == CAPTURING
    ]
