"""Shards: which elements of the whole tensor a rank holds, computed from shapes alone, without a process group.

`indices` gives them axis by axis, `boxes` as the index boxes of plans; `pieces`, `cut_where_sharded` and `fill_rows_` work
on the local tensor of a DTensor. Nothing here communicates. torch.distributed is imported once there is a DTensor.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, product
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from fastinit._core.check import PLAIN, is_loaded, is_plain, left
from fastinit._core.memory import check_memory
from fastinit._core.modes import safe_torch
from fastinit._core.plan import Box, row_of
from fastinit._torch import FakeTensor, is_strided_shard, local_tensor_of

_Filling = TypeVar("_Filling", bound=Callable[..., Tensor])
_Runs = list[range]  # of indices along one axis, in the order in which the local tensor holds them


class Block(NamedTuple):
    """A rectangle of the local tensor, and the indices of the whole tensor that it holds: one range an axis, both times."""

    local: tuple[range, ...]
    whole: tuple[range, ...]

    def of_local(self, tensor: Tensor) -> Tensor:
        return tensor[tuple(slice(r.start, r.stop) for r in self.local)]

    def of_whole(self, tensor: Tensor) -> Tensor:
        return tensor[tuple(slice(r.start, r.stop) for r in self.whole)]


def indices(shape: Sequence[int], mesh_shape: Sequence[int], placements: Sequence[Any], coordinate: Sequence[int]) -> list[_Runs]:
    """Compute which indices of a whole tensor one rank holds.

    Args:
        shape: the sizes of the whole tensor.
        mesh_shape: the sizes of the device mesh.
        placements: one for each mesh dimension, as `torch.distributed.tensor` has them: Shard, Replicate, or FSDP2's
            _StridedShard.
        coordinate: the rank's place in the mesh, one index for each mesh dimension.

    Returns:
        For every axis of the tensor the runs of indices that the rank holds, in local order. Uneven shards are torch.chunk's.

    Raises:
        ValueError: a Partial or unknown placement, an axis that the tensor does not have, a coordinate outside the mesh, or
            lengths that do not fit together.

    Reference:
        PyTorch, torch.distributed.tensor: mesh dimensions shard from left to right.

    Examples:
        >>> from torch.distributed.tensor import Replicate, Shard
        >>> fastinit.shard.indices((10, 4), mesh_shape=(2, 3), placements=[Replicate(), Shard(0)], coordinate=(0, 2))
        [[range(8, 10)], [range(0, 4)]]
    """
    if not len(mesh_shape) == len(placements) == len(coordinate):
        raise ValueError(
            "a mesh has as many placements and coordinates as dimensions. "
            f"Received: mesh_shape={tuple(mesh_shape)}, placements={tuple(placements)}, coordinate={tuple(coordinate)}."
        )
    if not all(0 <= rank < ranks for ranks, rank in zip(mesh_shape, coordinate, strict=True)):
        raise ValueError(f"a mesh of {tuple(mesh_shape)} has no coordinate {tuple(coordinate)}. Pass 0 <= coordinate < size.")
    runs = [[range(size)] for size in shape]
    for ranks, placement, rank in zip(mesh_shape, placements, coordinate, strict=True):
        split = _splitting(placement)
        if split is None:
            continue
        axis, factor = split
        if not -len(runs) <= axis < len(runs):
            raise ValueError(f"{placement} shards an axis that a tensor of shape {tuple(shape)} does not have.")
        runs[axis] = [r for part in range(factor) for r in _chunk(_chunk(runs[axis], factor, part), ranks, rank)]
    return [_joined(axis) for axis in runs]


def _splitting(placement: Any) -> tuple[int, int] | None:
    """The axis that a placement splits, and how many parts it makes of it before each is split over the ranks; None: none."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    if isinstance(placement, Replicate):
        return None
    if is_strided_shard(placement):  # before Shard, whose subclass it once was
        return placement.dim, int(placement.split_factor)
    if type(placement) is Shard:
        return placement.dim, 1
    if isinstance(placement, Partial):
        raise ValueError(
            f"a tensor with the placement {placement} holds summands, not elements, and cannot be filled. "
            "Call redistribute() with Replicate() or Shard() in its place first."
        )
    raise ValueError(f"unknown placement. Received: {placement!r}. Allowed: Shard, Replicate, _StridedShard.")


def _chunk(runs: _Runs, chunks: int, number: int) -> _Runs:
    """One of the chunks into which torch.chunk would split the indices; the last ones may be shorter, or empty."""
    total = sum(map(len, runs))
    size = -(-total // chunks)
    first, last = min(number * size, total), min((number + 1) * size, total)
    ends = accumulate(map(len, runs))
    return [r[max(first - end + len(r), 0) : max(last - end + len(r), 0)] for r, end in zip(runs, ends, strict=True)]


def _joined(runs: _Runs) -> _Runs:
    """The runs without empty ones, those that follow each other joined."""
    found: _Runs = []
    for run in runs:
        if found and run and found[-1].stop == run.start:
            found[-1] = range(found[-1].start, run.stop)
        elif run:
            found.append(run)
    return found


def blocks(runs: Sequence[_Runs]) -> Iterator[Block]:
    """The rectangles that the runs of all axes make: one, or several for strided shards."""
    starts = [list(accumulate(map(len, axis), initial=0)) for axis in runs]
    places = [[range(s, s + len(r)) for s, r in zip(start, axis, strict=False)] for start, axis in zip(starts, runs, strict=True)]
    for local, whole in zip(product(*places), product(*runs), strict=True):
        yield Block(local, whole)


def boxes(shape: Sequence[int], block: Block) -> Iterator[tuple[Block, Box]]:
    """The index boxes of a block, each with the part that it fills. There are several where inner and outer axes are cut.

    A box has one pitch. The innermost axis that is cut makes its columns; above it only the outermost that has more than
    one index may be cut, so any other is walked, index by index.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    lengths = [len(r) for r in block.whole]
    start = sum(r.start * stride for r, stride in zip(block.whole, strides, strict=True))
    cut = [axis for axis, size in enumerate(shape) if lengths[axis] < size]
    if not cut or math.prod(lengths[: cut[-1]]) == 1:
        yield block, row_of(math.prod(lengths))._replace(start=start)
        return
    inner = cut[-1]
    outer = next(axis for axis, length in enumerate(lengths) if length > 1)
    if any(outer < axis < inner for axis in cut):
        for offset in range(lengths[outer]):
            yield from boxes(shape, _at(block, outer, offset))
    else:
        rows, cols = math.prod(lengths[:inner]), math.prod(lengths[inner:])
        yield block, Box(start, rows, cols, math.prod(shape[inner:]))


def without_row(block: Block, axis: int, row: int) -> Iterator[tuple[Block, bool]]:
    """What a block holds of one index of an axis of the whole, and what it holds besides: with whether it is that index."""
    held = block.whole[axis]
    cuts = (range(held.start, row), range(row, row + 1), range(row + 1, held.stop))
    for number, cut in enumerate(cuts):
        first, last = max(cut.start, held.start) - held.start, min(cut.stop, held.stop) - held.start
        if first < last:
            local, whole = list(block.local), list(block.whole)
            local[axis], whole[axis] = local[axis][first:last], held[first:last]
            yield Block(tuple(local), tuple(whole)), number == 1


def _at(block: Block, axis: int, offset: int) -> Block:
    """The slice of a block at one index of an axis."""
    local, whole = list(block.local), list(block.whole)
    local[axis], whole[axis] = local[axis][offset : offset + 1], whole[axis][offset : offset + 1]
    return Block(tuple(local), tuple(whole))


# --- DTensors -----------------------------------------------------------------------------------------------------------------


def is_dtensor(tensor: object) -> bool:
    if type(tensor) in PLAIN:  # mostly
        return False
    module = sys.modules.get("torch.distributed.tensor")  # imported by whoever made the tensor, if it is one
    return isinstance(tensor, getattr(module, "DTensor", ()))


def local_of(tensor: Any) -> Tensor:
    """What this rank holds of a DTensor; any other tensor itself."""
    return local_tensor_of(tensor) if is_dtensor(tensor) else tensor


@contextlib.contextmanager
def plain_local(tensor: Any) -> Iterator[Tensor]:
    """The local tensor of a DTensor, to be written. One of a subclass (a result that is still under way, weights that are cast to
    float8 when they are used) is stood in for by a plain one, which is copied to it in the end: views of it may be copies.

    Raises:
        ValueError: the local tensor's memory is not there.
    """
    local = local_tensor_of(tensor)
    if is_plain(local) or local.is_meta or isinstance(local, FakeTensor):
        check_memory(local)
        yield local
        return
    with torch.no_grad(), safe_torch():
        plain = torch.empty(local.shape, dtype=local.dtype, device=local.device).copy_(local)
        yield plain
        local.copy_(plain)


def local_blocks(tensor: Any) -> list[Block]:
    """The blocks of a DTensor's local tensor; none on a rank outside the mesh.

    Raises:
        ValueError: as `indices`; or the local tensor does not have the shape that its placements promise.
    """
    local, mesh = local_tensor_of(tensor), tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return []
    runs = indices(tensor.shape, mesh.shape, tensor.placements, coordinate)
    promised = tuple(sum(map(len, axis)) for axis in runs)
    if promised != tuple(local.shape):
        raise ValueError(
            f"the local shard at {tuple(coordinate)} of a mesh of {tuple(mesh.shape)} must have the shape {promised} by its "
            f"placements {tuple(tensor.placements)}. Received: {tuple(local.shape)}. Use distribute_tensor, or from_local with "
            "shards as torch.chunk makes them."
        )
    return list(blocks(runs))


def pieces(tensor: Any, local: Tensor) -> list[tuple[Tensor, Box]]:
    """Views of a DTensor's local tensor that cover it, each with its index box in the whole."""
    shape = tuple(tensor.shape)
    return [(part.of_local(local), box) for block in local_blocks(tensor) for part, box in boxes(shape, block)]


def cut_where_sharded(function: _Filling) -> _Filling:
    """Let an initializer whose values depend on the whole tensor fill a DTensor: every rank makes the whole tensor for itself,
    keeps its part, and frees the rest. Nothing is communicated, and every rank draws the same."""

    @functools.wraps(function)
    def sharded(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not is_dtensor(tensor):
            return function(tensor, *args, **kwargs)
        if is_loaded(tensor):
            return left(tensor)
        local_blocks(tensor)  # raises before the whole is made
        copy_whole_(tensor, function(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device), *args, **kwargs))
        return tensor

    return cast(_Filling, sharded)


def copy_whole_(tensor: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one of its shape; into a DTensor what this rank holds of it."""
    with torch.no_grad(), safe_torch():
        if is_dtensor(whole) or not is_dtensor(tensor):
            tensor.copy_(whole)
            return
        with plain_local(tensor) as local:
            for block in local_blocks(tensor):
                block.of_local(local).copy_(block.of_whole(whole))
        torch.autograd.graph.increment_version(tensor)


def fill_rows_(tensor: Tensor, rows: range, value: float, axis: int = 0) -> None:
    """Fill some rows with one value: indices of an axis of a tensor, or of the whole tensor behind a DTensor."""
    if is_loaded(tensor):
        return
    inference = not torch.compiler.is_compiling() and tensor.is_inference()  # torch writes these in inference mode alone
    with torch.inference_mode() if inference else torch.no_grad(), safe_torch():
        if not is_dtensor(tensor):
            tensor.movedim(axis, 0)[rows.start : rows.stop].fill_(value)
            return
        with plain_local(tensor) as local:
            for block in local_blocks(tensor):
                held, here = block.whole[axis], block.of_local(local)
                first, last = (min(max(row, held.start), held.stop) for row in (rows.start, rows.stop))
                here.movedim(axis, 0)[first - held.start : last - held.start].fill_(value)
        torch.autograd.graph.increment_version(tensor)
