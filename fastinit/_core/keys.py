"""Keys: 64-bit integers from seeds, names and torch generators.

A key and a distribution determine a fill completely, so everything random in this package goes through a key.
"""

import hashlib
import operator
from collections.abc import Callable

import torch

from fastinit._core.check import shown
from fastinit._torch import without_dispatch_modes

_WORD64, _LEAST = 2**64 - 1, -(2**63)
_PHILOX_OFFSET_STEP = 4  # torch's CUDA generators count in 32-bit outputs and must stay multiples of four


def key(seed: int, *path: str | int) -> int:
    """Derive a 64-bit key from a seed and a path of names.

    Equal seeds and paths give equal keys on every machine and in every version; different ones give unrelated keys.
    The parts of the path are joined with dots, so ``key(0, "layer.0", "weight") == key(0, "layer", 0, "weight")``. A member of an
    enumeration of str or int counts as its value.

    Args:
        seed: any integer, taken modulo 2**64.
        *path: names (str) or numbers (int), such as the name of a parameter.

    Returns:
        The key, 0 <= key < 2**64. It is the little-endian value of the 8-byte BLAKE2b digest of the dotted path, keyed with
            the seed's 8 little-endian bytes.

    Raises:
        TypeError: the seed is not an integer, or a part of the path is neither str nor int.
        ValueError: a part has no UTF-8 (a lone surrogate), or more digits than Python converts (4,300).

    Reference:
        RFC 7693, "The BLAKE2 Cryptographic Hash and Message Authentication Code".

    Examples:
        >>> fastinit.key(0, "layer", 0, "weight") == fastinit.key(0, "layer.0.weight")
        True
    """
    if not _is_integer(seed):
        raise TypeError(f"seed must be an int. Received: seed={shown(seed)} ({type(seed).__name__}). Pass e.g. seed=0.")
    keyed = _keyed(seed)
    keyed.update(b".".join(map(_encoded, path)))
    return int.from_bytes(keyed.digest(), "little")


def of_names(seed: int, *path: str | int) -> Callable[[str | int], int]:
    """A function from a name, or a number, to its key under one seed and path, in half of the time of `key`."""
    start = _keyed(seed)
    start.update(b"".join(_encoded(part) + b"." for part in path))
    copied, from_bytes = start.copy, int.from_bytes

    def key_of(name: str | int) -> int:
        keyed = copied()
        keyed.update(name.encode() if type(name) is str else b"%d" % name if type(name) is int else _encoded(name))
        return from_bytes(keyed.digest(), "little")

    return key_of


def _keyed(seed: int) -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=8, key=(operator.index(seed) % 2**64).to_bytes(8, "little"))


def _encoded(part: str | int) -> bytes:
    """A part of a path: of a str its characters, whatever a subclass prints, and of an integer its digits."""
    try:
        if isinstance(part, str):
            return str.encode(part)
        if _is_integer(part):
            return b"%d" % operator.index(part)
    except ValueError as error:  # UnicodeEncodeError is one
        raise ValueError(f"a part of the path of a key cannot be written. Received: {shown(part)}. {error}.") from None
    # The repr of an arbitrary object may hold its address: the key would differ from run to run.
    raise TypeError(
        f"the path of a key takes str and int parts. Received: {shown(part)} ({type(part).__name__}). "
        "Pass a name or a number, e.g. key(seed, 'layer', 0, 'weight')."
    )


def check(key: int) -> int:
    """Return a key as a plain int, or raise if it is not an integer or lies outside [0, 2**64)."""
    if type(key) is int and 0 <= key <= _WORD64:
        return key
    if not _is_integer(key):
        raise TypeError(
            f"key must be an int in [0, 2**64). Received: key={shown(key)} ({type(key).__name__}). "
            "Make one with fastinit.key(seed, name)."
        )
    value = operator.index(key)
    if not 0 <= value <= _WORD64:
        raise ValueError(
            f"key must be in [0, 2**64). Received: key={shown(key)}. Make one with fastinit.key(seed, name), "
            "which takes any integer as the seed."
        )
    return value


def signed(key: int) -> int:
    """A 64-bit key as the int64 that an operator's schema can carry."""
    return key - (1 << 64) if key >> 63 else key


def check_source(generator: torch.Generator | None, key: int | None, device: torch.device) -> None:
    """Check the source of a fill's randomness without drawing from it.

    Raises:
        TypeError: the key is not an integer, or the generator is not a torch.Generator.
        ValueError: the key is out of range, both are given, or the generator lives on a device that cannot serve.
    """
    if key is not None:
        check(key)
        if generator is not None:
            raise ValueError(
                f"generator and key exclude each other. Received: generator={generator!r}, key={shown(key)}. Pass one of them."
            )
    elif generator is not None:
        _check_generator(generator, device)


def resolve(generator: torch.Generator | None, key: int | None, device: torch.device) -> int:
    """Return the key of one fill.

    Args:
        generator: None for a fresh draw from torch's default CPU generator, which `torch.manual_seed` governs for
            every device without a sync; a CPU generator, drawn from likewise; or a CUDA generator of the tensor's
            device, which yields a key from its seed and offset and is advanced by 4.
        key: the key itself; bypasses every generator.
        device: the device of the tensor to be filled.

    Returns:
        The key, 0 <= key < 2**64.

    Raises:
        TypeError, ValueError: as `check_source`.
    """
    if key is None and generator is None:
        return _draw(None)
    if generator is None and type(key) is int and 0 <= key <= _WORD64:
        return operator.index(key)  # which pins the key of a graph: it is a constant there
    check_source(generator, key, device)
    if key is not None:
        return operator.index(key)
    assert generator is not None
    return _draw(generator) if generator.device.type == "cpu" else _advance(generator)


# Tensors of one 64-bit word that no draw is using: with one of them a draw takes 1.2 us, with a new one 6. No two draws share
# one, neither in two threads nor where one interrupts another (a signal's handler, a finalizer).
_spare: list[torch.Tensor] = []


def _draw(generator: torch.Generator | None) -> int:
    try:
        word = _spare.pop()
    except IndexError:
        # This draw may happen in any mode; a fake or an inference tensor would not serve the next one.
        with torch.inference_mode(False), without_dispatch_modes():
            word = torch.empty((), dtype=torch.int64, device="cpu")
    drawn = word.random_(_LEAST, None) if generator is None else word.random_(_LEAST, None, generator=generator)
    key: int = drawn.item()  # type: ignore[assignment]
    _spare.append(word)
    return key & _WORD64


def _advance(generator: torch.Generator) -> int:
    """Take the position of a CUDA generator's Philox stream as a key, and move the generator past it."""
    if hasattr(generator, "philox_state"):
        seed, offset, intragraph = (int(x) for x in generator.philox_state(_PHILOX_OFFSET_STEP))
        offset += intragraph
    else:
        seed, offset = generator.initial_seed(), generator.get_offset()
        generator.set_offset(offset + _PHILOX_OFFSET_STEP)
    return key(seed, "philox", offset)


def _check_generator(generator: torch.Generator, device: torch.device) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None. Received: {generator!r} ({type(generator).__name__}). "
            "Pass torch.Generator().manual_seed(seed), or key=fastinit.key(seed)."
        )
    own = generator.device
    if own.type == "cpu":
        return
    if own.type != "cuda" or device.type != "cuda" or (own.index is not None and own.index != device.index):
        raise ValueError(
            f"a generator must live on the CPU or be the CUDA generator of the tensor's device. Received: a generator "
            f"on {own} for a tensor on {device}. Pass a CPU generator, which serves every device, or key=."
        )


def _is_integer(value: object) -> bool:
    """Whether it is an integer of Python or NumPy. Arrays have __index__ too, of use only where they hold one integer."""
    if isinstance(value, (bool, torch.Tensor)):
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True
