"""Counts live bytes and operations of tensors; fake ones, which cost neither, count too."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

ATEN: Any = torch.ops.aten

#: Floating-point operations that torch's own counter leaves out: attention on a CPU, and sums of products in place.
MORE_FLOPS: dict[Any, Callable[..., int]] = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: _count_attention_flops(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, q, k, v, *__, **___: (
        5 * _count_attention_flops(q, k, v) // 2  # five products where there were two
    ),
    ATEN.addmm_: lambda _, a, b, **__: 2 * a.shape[0] * a.shape[1] * b.shape[1],
}


def _count_attention_flops(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the storages made inside it, from the operation that makes them until they are freed.

    ``flops`` are those of matrix products and attention. ``moments`` has, after each operation that made one, the
    bytes alive as (all but gradients, gradients of weights).
    A storage that an operation only looks at or writes into (a view, an update in place) is not made by it.
    """

    def __init__(self, model: Any = None) -> None:
        """``model``: whose weights' gradients to count apart."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.gradients = self.flops = self.backbone = 0
        self.moments: list[tuple[int, int]] = [(0, 0)]
        self._alive: dict[int, tuple[weakref.ref[Any], int, bool]] = {}
        self._hooks = [
            weight.register_post_accumulate_grad_hook(self._count_gradient)
            for weight in (model.parameters() if model else ())
            if weight.requires_grad
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and track what it made."""
        made = func(*args, **(kwargs or {}))
        if func.namespace == "prim":  # asks a tensor for its device: two of three calls
            return made
        given = {id(storage) for storage in _list_storages((args, kwargs))}
        for storage in _list_storages(made):
            if id(storage) not in given and id(storage) not in self._alive:
                self._track(storage)
        packet = func.overloadpacket
        if packet in MORE_FLOPS:
            self.flops += MORE_FLOPS[packet](*args, **(kwargs or {}))
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=made)
        return made

    def __enter__(self) -> LiveBytes:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def find_peak(self, share: float = 1.0) -> tuple[int, int]:
        """Return the moment with the most bytes, (rest, gradients), where a device keeps this share of gradients."""
        return max(((rest, int(share * gradients)) for rest, gradients in self.moments), key=sum)

    @contextmanager
    def ignore_peak(self) -> Iterator[None]:
        """Track what is made in this block, but leave its live bytes out of the peak."""
        seen = len(self.moments)
        yield
        self.moments[seen:] = [(self.bytes, self.gradients)]

    def mark(self, *_: Any) -> None:
        """Note the live bytes as the backbone's activations: called as a hook, before the last layer."""
        self.backbone = self.bytes

    def _track(self, storage: Any) -> None:
        size, key = storage.nbytes(), id(storage)
        self._alive[key] = (weakref.ref(storage, self._make_callback(key)), size, False)
        self.bytes += size
        self.moments.append((self.bytes, self.gradients))

    def _make_callback(self, key: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            _, size, gradient = self._alive.pop(key)
            if gradient:
                self.gradients -= size
            else:
                self.bytes -= size

        return forget

    def _count_gradient(self, weight: torch.Tensor) -> None:
        """Count a weight's finished gradient with the gradients; called as a hook."""
        assert weight.grad is not None
        key = id(weight.grad.untyped_storage())
        reference, size, gradient = self._alive.get(key, (None, 0, True))
        if reference is not None and not gradient:
            self._alive[key] = (reference, size, True)
            self.bytes -= size
            self.gradients += size


def _list_storages(tree: Any) -> list[Any]:
    """Return the storages of the tensors in a tree of arguments or results."""
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
