"""For tests alone: lets FSDP2's real code path run on the CPU, where accelerate would quietly run DDP instead.

Python imports this at its start where the folder stands in PYTHONPATH, so that worker processes have it too.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any


class Patching:
    """Finds ``accelerate.state`` as always, and changes one branch of ``AcceleratorState`` once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "accelerate.state":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            _patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(state: Any) -> None:
    kinds, cls = state.DistributedType, state.AcceleratorState
    original = cls.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == kinds.MULTI_CPU:
            self.distributed_type = kinds.FSDP
            self.fsdp_plugin = fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = kinds.FSDP

    cls.__init__ = init


sys.meta_path.insert(0, Patching())
