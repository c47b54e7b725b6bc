"""What makes the host wait for a GPU, and a count of it in a run on the CPU: no such wait can be measured there, but its calls can be seen."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_READ_BY_THE_HOST = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.is_nonzero.default,
    _aten.masked_scatter_backward.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
    _aten._unique2.default,
    _aten.unique_consecutive.default,
    _aten.unique_dim.default,
}
OF_KNOWN_SHAPE = {_aten.masked_scatter_backward.default}
"""Of these the calls whose result nevertheless has a shape that is known beforehand."""
INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
"""Calls whose second argument is a sequence of indices, one per dimension, None for all of it."""


def is_read_by_the_host(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the result, or its shape, depends on the values of a tensor, which the host has to wait for."""
    boolean = func in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1])
    open_length = func is _aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
    return func in _READ_BY_THE_HOST or boolean or open_length


class _Calls(TorchDispatchMode):
    def __init__(self, waits: Counter) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if is_read_by_the_host(func, args, kwargs or {}):
            self._waits[str(func)] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_host_waits() -> Iterator[Counter]:
    """Calls inside whose result depends on values of a tensor; on a GPU each one waits until it has computed them."""
    waits: Counter = Counter()

    def counting(name):
        original = getattr(torch.Tensor, name)

        def method(tensor, *args, **kwargs):
            waits[name] += 1
            return original(tensor, *args, **kwargs)

        return patch.object(torch.Tensor, name, method)

    with counting("tolist"), counting("cpu"), counting("numpy"), _Calls(waits):
        yield waits
