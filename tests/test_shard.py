"""Index boxes of shards, against torch's own splitting of an index tensor: any mesh, shape and placements, without processes."""

import itertools
import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from helpers.laws import LAWS, fill_part_, same_bits
from helpers.meshes import DTYPES, cases, split_by_torch
from helpers.quick import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.tensor import Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from fastinit._core import shard


@settings(max_examples=examples(300))
@given(cases())
def test_every_rank_holds_what_torch_gives_it(case):
    shape, mesh_shape, placements = case
    numbers = torch.arange(math.prod(shape)).view(shape)
    for coordinate in itertools.product(*map(range, mesh_shape)):
        expected = split_by_torch(numbers, mesh_shape, placements, coordinate)
        runs = shard.indices(shape, mesh_shape, placements, coordinate)
        assert tuple(sum(map(len, axis)) for axis in runs) == tuple(expected.shape)
        found = torch.full(expected.shape, -1)
        for block in shard.blocks(runs):
            assert torch.equal(block.of_whole(numbers), block.of_local(expected))
            for part, box in shard.boxes(shape, block):
                rows = torch.arange(box.rows)[:, None] * box.pitch + torch.arange(box.cols) + box.start
                view = part.of_local(found)
                assert view.numel() == box.rows * box.cols and (view == -1).all()
                view.copy_(rows.view(view.shape))
        assert torch.equal(found, expected)


@settings(max_examples=examples(60))
@given(cases(), st.sampled_from(sorted(LAWS)), st.sampled_from(DTYPES))
def test_shards_of_any_mesh_put_together_are_the_whole(case, law, dtype):
    shape, mesh_shape, placements = case
    whole = fill_part_(torch.zeros(shape, dtype=dtype), LAWS[law], shard.row_of(math.prod(shape)))
    for coordinate in itertools.product(*map(range, mesh_shape)):
        expected = split_by_torch(whole.view(torch.uint8).view(*shape, -1), mesh_shape, placements, coordinate)
        local = torch.zeros(expected.shape[:-1], dtype=dtype)
        for block in shard.blocks(shard.indices(shape, mesh_shape, placements, coordinate)):
            for part, box in shard.boxes(shape, block):
                fill_part_(part.of_local(local), LAWS[law], box)
        assert torch.equal(local.view(torch.uint8).view(expected.shape), expected)


def test_one_box_a_shard_unless_axes_between_are_cut():
    def boxes(shape, mesh_shape, placements, coordinate):
        runs = shard.indices(shape, mesh_shape, placements, coordinate)
        return [box for block in shard.blocks(runs) for _, box in shard.boxes(shape, block)]

    assert boxes((8, 6, 5), (2,), [Replicate()], (1,)) == [(0, 1, 240, 240)]
    assert boxes((8, 6, 5), (2,), [Shard(0)], (1,)) == [(120, 1, 120, 120)]
    assert boxes((8, 6, 5), (2,), [Shard(1)], (1,)) == [(15, 8, 15, 30)]
    assert boxes((8, 6, 5), (2,), [Shard(-1)], (1,)) == [(3, 48, 2, 5)]
    assert boxes((8, 6, 5), (2, 3), [Shard(0), Shard(1)], (1, 2)) == [(140, 4, 10, 30)]
    assert boxes((8, 6, 5), (2, 2), [Shard(1), Shard(2)], (0, 0)) == [(30 * i, 3, 3, 5) for i in range(8)]
    assert boxes((8, 6), (2, 2), [_StridedShard(0, split_factor=2), Shard(0)], (1, 0)) == [(12, 1, 12, 12)]
    assert boxes((8, 6), (2,), [_StridedShard(0, split_factor=2)], (0,)) == [(0, 1, 12, 12), (24, 1, 12, 12)]
    assert boxes((8, 6), (1,), [_StridedShard(0, split_factor=2)], (0,)) == [(0, 1, 48, 48)]
    assert boxes((3,), (4,), [Shard(0)], (3,)) == []
    assert boxes((), (4,), [Replicate()], (3,)) == [(0, 1, 1, 1)]
    assert boxes((4, 0), (2,), [Shard(0)], (0,)) == []


def test_wrong_placements_say_why():
    for placement in (Partial(), Partial("max")):
        with pytest.raises(ValueError, match="holds summands"):
            shard.indices((4, 4), (2,), [placement], (0,))
    with pytest.raises(ValueError, match="axis that a tensor of shape"):
        shard.indices((4, 4), (2,), [Shard(2)], (0,))
    for coordinate in ((2,), (-1,)):
        with pytest.raises(ValueError, match="no coordinate"):
            shard.indices((4, 4), (2,), [Shard(0)], coordinate)
    with pytest.raises(ValueError, match="as many placements"):
        shard.indices((4, 4), (2, 2), [Shard(0)], (0, 0))
    with pytest.raises(ValueError, match="unknown placement"):
        shard.indices((4, 4), (2,), ["Shard(0)"], (0,))


class Layer405B(nn.Module):
    """A block of Llama 3.1 405B: Dubey et al. 2024, "The Llama 3 herd of models", table 3."""

    def __init__(self, width=16384, hidden=53248, queries=128, keys=8):
        super().__init__()
        size = width // queries
        for name, outputs in {"q": width, "k": keys * size, "v": keys * size}.items():
            self.add_module(f"{name}_proj", nn.Linear(width, outputs, bias=False))
        self.o_proj, self.down_proj = nn.Linear(width, width, bias=False), nn.Linear(hidden, width, bias=False)
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))


def llama_405b():
    with torch.device("meta"):
        model = nn.Module()
        model.embedding, model.head = nn.Embedding(128256, 16384), nn.Linear(16384, 128256, bias=False)
        model.layers, model.norm = nn.ModuleList(Layer405B() for _ in range(126)), nn.RMSNorm(16384)
    return model


def placements_of(name, tensor, tensor_parallel):
    """As FSDP2 over tensor parallelism leaves them on a mesh (data, tensor)."""
    if tensor.ndim == 1:
        return Shard(0), Replicate()
    if "o_proj" in name or "down_proj" in name:
        return Shard(0), Shard(1)
    return _StridedShard(0, split_factor=tensor_parallel), Shard(0)


def rectangle(box, width):
    """The box in rows and columns of a matrix."""
    first_row, first_column = divmod(box.start, width)
    rows = box.rows if box.rows > 1 else max(1, box.cols // width)
    columns = box.cols if box.rows > 1 else min(box.cols, width)
    return first_row, first_row + rows, first_column, first_column + columns


def test_the_shards_of_1024_ranks_tile_every_tensor_of_a_405b_model():
    data, tensor_parallel = 128, 8
    model = llama_405b()
    assert 405e9 < sum(parameter.numel() for parameter in model.parameters()) < 407e9
    kinds = {(tuple(p.shape), placements_of(name, p, tensor_parallel)) for name, p in model.named_parameters()}
    assert len(kinds) == 7
    for shape, placements in kinds:
        copies = tensor_parallel if Replicate() in placements else 1
        rectangles = Counter()
        for coordinate in itertools.product(range(data), range(tensor_parallel)):
            for block in shard.blocks(shard.indices(shape, (data, tensor_parallel), placements, coordinate)):
                boxes = [box for _, box in shard.boxes(shape, block)]
                assert len(boxes) == 1
                rectangles[rectangle(boxes[0], shape[-1])] += 1
        assert tiles(rectangles, shape if len(shape) == 2 else (1, *shape), copies)


def tiles(rectangles, shape, copies):
    """Whether the rectangles cover every element exactly `copies` times: summed over a grid of all their edges."""
    row_edges, column_edges = ({0, size} for size in shape)
    for top, bottom, left, right in rectangles:
        row_edges |= {top, bottom}
        column_edges |= {left, right}
    if max(row_edges) != shape[0] or max(column_edges) != shape[1]:
        return False
    rows, columns = ({edge: n for n, edge in enumerate(sorted(edges))} for edges in (row_edges, column_edges))
    steps = torch.zeros(len(rows), len(columns), dtype=torch.int64)
    for (top, bottom, left, right), count in rectangles.items():
        steps[rows[top], columns[left]] += count
        steps[rows[bottom], columns[right]] += count
        steps[rows[top], columns[right]] -= count
        steps[rows[bottom], columns[left]] -= count
    covered = steps.cumsum(0).cumsum(1)[:-1, :-1]
    return bool((covered == copies).all())


def test_tiles_notices_gaps_and_overlaps():
    assert tiles(Counter({(0, 2, 0, 4): 1, (2, 4, 0, 1): 1, (2, 4, 1, 4): 1}), (4, 4), 1)
    assert not tiles(Counter({(0, 2, 0, 4): 1, (2, 4, 0, 1): 1, (2, 4, 2, 4): 1}), (4, 4), 1)
    assert not tiles(Counter({(0, 3, 0, 4): 1, (2, 4, 0, 4): 1}), (4, 4), 1)
    assert not tiles(Counter({(0, 4, 0, 4): 2}), (4, 4), 1)


@pytest.mark.parametrize("coordinate", [(0, 0), (77, 5), (127, 7)])
def test_a_shard_of_a_405b_matrix_holds_the_words_of_its_place(coordinate):
    """Indices past 2^31, element by element: whole[i] takes word i."""
    shape, mesh = (128256, 16384), (128, 8)
    [block] = shard.blocks(shard.indices(shape, mesh, (_StridedShard(0, split_factor=8), Shard(0)), coordinate))
    [(_, box)] = shard.boxes(shape, block)
    assert box.cols == len(block.whole[0]) * 16384
    some = box._replace(cols=4096)
    row = fill_part_(torch.empty(4096), LAWS["normal"], some)
    for i in range(9):
        one = fill_part_(torch.empty(1), LAWS["normal"], some._replace(start=box.start + i, cols=1))
        assert same_bits(row[i : i + 1], one)


def test_rows_of_plain_tensors():
    tensor = torch.zeros(5, 2)
    shard.fill_rows_(tensor, range(1, 3), 4.0)
    assert tensor[:, 0].tolist() == [0, 4, 4, 0, 0]
    assert not shard.is_dtensor(tensor) and not shard.is_dtensor(nn.Linear(1, 1).weight)


def test_it_imports_no_torch_distributed_before_there_is_a_dtensor():
    code = (
        "import sys, torch; before = 'torch.distributed.tensor' in sys.modules; import fastinit; "
        "fastinit.initialize_(torch.nn.Linear(2, 2), seed=0); "
        "assert before or 'torch.distributed.tensor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
