"""Which elements of a whole tensor a rank of a mesh holds, computed without a process group."""

from fastinit._core.shard import indices

__all__ = ["indices"]
