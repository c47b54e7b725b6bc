"""A GPU that computes shapes, integers and bytes: code for CUDA runs forward and backward on a machine without one.

Tensors of the GPU are torch's fake ones, which have a device, a dtype and a shape but no numbers, so that the largest models fit
and a wrong device, dtype or shape raises as on a GPU. Integers and booleans have their values, computed on the CPU, so that
lengths, indices and masks decide what they decide; what floats decide (an argmax, a comparison) counts as 0. Tensors of the CPU
are real. Waits of the host and live bytes are counted. Numbers, kernels' own workspaces and the allocator's slack are not seen.
"""

import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from trl.kernels import chunked_logprob

from tests.host_waits import INDEXED, OF_KNOWN_SHAPE, is_read_by_the_host

DEVICE = torch.device("cuda:0")
_aten = torch.ops.aten
_BETWEEN = ("/torch/", "/contextlib.py", "/functools.py")
_HALF = (torch.bfloat16, torch.float16)
_ONE_DTYPE = {"mm", "addmm", "bmm", "baddbmm", "convolution", "index_copy", "index_put", "_index_put_impl", "scatter",
              "masked_scatter", "lerp"}  # fmt: skip
_STARTS_NOTHING = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
# One for all, as caches of the code under test may keep tensors from one test to the next.
_FAKE = FakeTensorMode(allow_non_fake_inputs=True)


class HostWaitError(RuntimeError):
    """The host waits for the GPU where it must not."""


class FakeGpu(TorchDispatchMode):
    """Sees every call of torch before the fake tensors do. Made by `fake_cuda`.

    Attributes:
        waits: what made the host wait and the line that did -> how often.
        kernels: calls on tensors of the GPU, by name; views and tensors without a value start none.
        live: bytes of all tensors that are alive.
        peak: the most that `live` was, since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.live = self.peak = 0
        self._waiting_allowed = True
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @contextmanager
    def without_waits(self) -> Iterator[None]:
        """A wait of the host inside raises `HostWaitError`."""
        self._waiting_allowed = False
        try:
            yield
        finally:
            self._waiting_allowed = True

    def tolist(self, tensor: torch.Tensor) -> Any:
        """Of a fake tensor, in one wait; its own method reads number by number."""
        self._count_wait("tolist", tensor)
        with unset_fake_temporarily():
            return _value(tensor).tolist()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            # What C++ asks, the backward pass above all, which needs a driver for "cuda" and none for "meta".
            fake = args[0].fake_device
            return torch.device("meta") if fake.type == "cuda" else fake
        if (device := kwargs.get("device")) is not None and torch.device(device).type == "meta":
            kwargs["device"] = DEVICE  # C++ asks for a tensor beside one of the GPU
        if func is _aten._to_copy.default and _is_there(args[0], kwargs):
            func, kwargs = _aten.alias.default, {}  # C++ did not know that nothing is to be copied
        if not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))) and not _goes_there(kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        self._count_copies(func, args, kwargs)
        if func is _aten._to_copy.default and not _goes_there({"device": DEVICE} | kwargs):
            with unset_fake_temporarily():
                return func(_value(args[0]), **kwargs).clone()
        if func is _aten.copy_.default and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():
                return func(args[0], _value(args[1]))
        if is_read_by_the_host(func, args, kwargs):
            self._count_wait(func._opname, next(t for t in tree_leaves(args) if isinstance(t, FakeTensor)))
            if func in INDEXED:
                args = (args[0], [place for index in args[1] for place in self._places(index)], *args[2:])
            elif func not in OF_KNOWN_SHAPE:
                return self._read(func, args, kwargs)
        _refuse_mixed_precision(func, args, kwargs)
        _refuse_what_flash_attention_refuses(func, args, kwargs)
        out = func(*args, **kwargs)
        _compute_integers(func, args, kwargs, out)
        self._count(func, out)
        return out

    def _read(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the host gets to know of a tensor's values."""
        with unset_fake_temporarily():
            found = func(*tree_map_only(torch.Tensor, _value, args), **kwargs)
        return tree_map_only(torch.Tensor, _put, found)

    def _places(self, index: torch.Tensor | None) -> list[torch.Tensor | None]:
        """The numbers that an index of booleans stands for; any other index as it is."""
        if index is None or index.dtype != torch.bool:
            return [index]
        with unset_fake_temporarily():
            places = _value(index).nonzero(as_tuple=True)
        return [_put(place) for place in places]

    def _count_wait(self, what: str, tensor: torch.Tensor) -> None:
        if tensor.device.type != "cuda":
            return
        wait = f"{what} {_place()}"
        if not self._waiting_allowed:
            raise HostWaitError(wait)
        self.waits[wait] += 1

    def _count_copies(self, func: Any, args: Any, kwargs: Any) -> None:
        """Between host and GPU: one that is not `non_blocking` waits, whichever way it goes."""
        if func in INDEXED and args[0].device.type == "cuda":
            for index in args[1]:
                # A list of numbers becomes a tensor on what C++ takes for the device.
                if index is not None and index.device.type in ("cpu", "meta"):
                    self._count_wait("copy of an index", args[0])
        if kwargs.get("non_blocking") or (func is _aten.copy_.default and args[2:3] == (True,)):
            return
        if func is _aten._to_copy.default and kwargs.get("device") is not None:
            places = (args[0].device.type, torch.device(kwargs["device"]).type)
        elif func is _aten.copy_.default:
            places = (args[1].device.type, args[0].device.type)
        else:
            return
        if set(places) == {"cpu", "cuda"}:
            self._count_wait(f"copy from {places[0]} to {places[1]}", torch.empty(0, device=DEVICE))

    def _count(self, func: Any, out: Any) -> None:
        tensors = [t for t in tree_leaves(out) if isinstance(t, FakeTensor) and t.device.type == "cuda"]
        if tensors and not func.is_view and func._opname not in _STARTS_NOTHING:
            self.kernels[func._opname] += 1
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._storages:
                key, size = storage._cdata, storage.nbytes()
                self._storages[key] = weakref.ref(storage, lambda _, key=key, size=size: self._free(key, size))
                self.live += size
                self.peak = max(self.peak, self.live)

    def _free(self, key: int, size: int) -> None:
        self.live -= size
        del self._storages[key]


def _place() -> str:
    """Where the code under test is: file:line and its text."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__ and not any(part in frame.filename for part in _BETWEEN):
            return f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.line}"
    return "?"


def _is_there(tensor: torch.Tensor, kwargs: dict[str, Any]) -> bool:
    return isinstance(tensor, FakeTensor) and _goes_there(kwargs) and kwargs.get("dtype") in (None, tensor.dtype)


def _goes_there(kwargs: dict[str, Any]) -> bool:
    return (device := kwargs.get("device")) is not None and torch.device(device).type == "cuda"


def _value(tensor: torch.Tensor) -> torch.Tensor:
    """The real tensor on the CPU that a fake one stands for."""
    if not isinstance(tensor, FakeTensor):
        return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor
    value: torch.Tensor | None = tensor.__dict__.get("value")
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) if value is None else value


def _put(value: torch.Tensor) -> torch.Tensor:
    """A tensor of the GPU with these values."""
    with _FAKE:
        fake = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
    fake.__dict__["value"] = value
    return fake


def _compute_integers(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
    """Give the integers among a call's results their values; 0 where a float had a say."""
    outs = [tensor for tensor in tree_leaves(out) if isinstance(tensor, FakeTensor)]
    if all(tensor.is_floating_point() for tensor in outs):
        return
    taken = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
    known = not any(tensor.is_floating_point() for tensor in taken) and not func._opname.startswith(
        ("empty", "new_empty")
    )
    with unset_fake_temporarily():
        if known:
            on_host = {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
            values = func(
                *tree_map_only(torch.Tensor, _value, args), **tree_map_only(torch.Tensor, _value, kwargs) | on_host
            )
            values = [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
        else:
            values = [torch.zeros(t.shape, dtype=t.dtype) if "value" not in t.__dict__ else _value(t) for t in outs]
    for tensor, value in zip(outs, values, strict=True):
        if not tensor.is_floating_point():
            tensor.__dict__["value"] = value


def _refuse_mixed_precision(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Fake kernels of these calls take it; the real ones refuse."""
    if func._opname.removesuffix("_") not in _ONE_DTYPE or "dtype" in func._overloadname:
        return
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.dim() > 0]
    dtypes = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}
    if len(dtypes) > 1:
        raise RuntimeError(f"{func}: tensors of one dtype are expected, got {', '.join(sorted(dtypes))}")


def _refuse_what_flash_attention_refuses(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Fake kernels check little; the real ones refuse, or read other bytes than they should."""
    if "flash_attention" not in func._opname:
        return
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    query, key = named["query"], named["key"]
    for name in ("grad_out", "query", "key", "value", "out"):
        if (tensor := named.get(name)) is None:
            continue
        if tensor.device.type != "cuda" or tensor.dtype not in _HALF or tensor.dtype != query.dtype:
            raise RuntimeError(f"{func}: {name} is {tensor.dtype} on {tensor.device}, the kernel takes half precision")
        if tensor.shape[-1] % 8 or tensor.shape[-1] > 256 or tensor.stride(-1) != 1:
            raise RuntimeError(f"{func}: {name} has head size {tensor.shape[-1]} and stride {tensor.stride(-1)}")
    expected = {"grad_out": query.shape, "out": query.shape, "value": key.shape, "logsumexp": query.shape[:3]}
    for name, shape in expected.items():
        if (tensor := named.get(name)) is not None and tensor.shape != shape:
            raise RuntimeError(f"{func}: {name} has shape {tuple(tensor.shape)}, expected {tuple(shape)}")
    lse = named.get("logsumexp")
    if lse is not None and (lse.dtype != torch.float32 or not lse.is_contiguous()):
        raise RuntimeError(f"{func}: logsumexp is {lse.dtype} with strides {lse.stride()}, expected contiguous float32")


def _on_flash(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`scaled_dot_product_attention` with the kernel that CUDA chooses; C++ would choose for "meta".

    In place of the function, as a mode is off while a backward pass computes a layer again.
    """

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if query.device.type != "cuda" or query.dtype not in _HALF or attn_mask is not None:
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        flash = _aten._scaled_dot_product_flash_attention.default
        out: torch.Tensor = flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
        return out

    return attention


class _NoKernel:
    """A Triton kernel writes into tensors that are there: nothing to do but to look at them."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def start(*args: Any, **kwargs: Any) -> None:
            tensors = [tensor for tensor in args if isinstance(tensor, torch.Tensor)]
            if any(tensor.device != DEVICE for tensor in tensors):
                raise RuntimeError(f"a Triton kernel got tensors on {sorted({str(t.device) for t in tensors})}")

        return start


@contextmanager
def fake_cuda() -> Iterator[FakeGpu]:
    """Inside, "cuda" is a GPU; tensors made before have to be brought there, as to a real one."""
    gpu, functional = FakeGpu(), torch.nn.functional
    kernel = _NoKernel()
    with (
        patch.object(FakeTensor, "tolist", lambda tensor: gpu.tolist(tensor)),
        patch.object(functional, "scaled_dot_product_attention", _on_flash(functional.scaled_dot_product_attention)),
        patch.multiple(chunked_logprob, _forward_kernel=kernel, _backward_kernel=kernel),
        _FAKE,
        gpu,
    ):
        yield gpu
