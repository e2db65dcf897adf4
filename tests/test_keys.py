"""Keys: golden values, and where the key of a fill comes from."""

import enum
import hashlib
import threading

import numpy
import pytest
import torch
from torch import nn

import fastinit
from fastinit._core import keys

CPU = torch.device("cpu")
# Made by the three lines of `independent` below; a change of any of them breaks every user's weights.
GOLDEN = {
    (0,): 0x3C1B4FBFD8FFAFC3,
    (0, "a", 1): 0xE8379DD157B5B7CE,
    (-1,): 0x61D3CF7D99CA9C57,
    (2**64 + 5, "layer.0", "weight"): 0x4DCFF7D0BD8AE7DE,
}


def independent(seed, *path):
    secret = b"".join(bytes([(seed >> shift) & 255]) for shift in range(0, 64, 8))
    digest = hashlib.blake2b(".".join(str(x) for x in path).encode("utf-8"), key=secret, digest_size=8).digest()
    return sum(byte << (8 * i) for i, byte in enumerate(digest))


@pytest.mark.parametrize("arguments", GOLDEN)
def test_golden_keys(arguments):
    assert fastinit.key(*arguments) == independent(*arguments) == GOLDEN[arguments]


def test_paths_join_with_dots_and_seeds_wrap():
    assert fastinit.key(3, "a.b", 0) == fastinit.key(3, "a", "b", "0")
    assert fastinit.key(-1, "x") == fastinit.key(2**64 - 1, "x")
    assert len({fastinit.key(s, p) for s in range(50) for p in range(50)}) == 2500


@pytest.mark.parametrize("bad", [1.0, "1", None, True, torch.tensor(1)])
def test_a_seed_is_an_integer(bad):
    with pytest.raises(TypeError, match="seed must be an int"):
        fastinit.key(bad)


@pytest.mark.parametrize("bad", [1.5, None, True, object()])
def test_a_path_holds_names_and_numbers(bad):
    with pytest.raises(TypeError, match="str and int"):
        fastinit.key(0, bad)


def test_an_explicit_key_bypasses_the_generator():
    before = torch.get_rng_state()
    assert keys.resolve(None, 2**64 - 1, CPU) == 2**64 - 1
    assert torch.equal(before, torch.get_rng_state())


def test_manual_seed_governs_and_every_draw_is_fresh():
    torch.manual_seed(5)
    first = [keys.resolve(None, None, CPU) for _ in range(100)]
    torch.manual_seed(5)
    assert [keys.resolve(None, None, CPU) for _ in range(100)] == first
    assert len(set(first)) == 100


def test_draws_use_all_64_bits_and_generators_agree_with_the_default_one():
    torch.manual_seed(7)
    default = [keys.resolve(None, None, CPU) for _ in range(64)]
    own = torch.Generator().manual_seed(7)
    assert [keys.resolve(own, None, CPU) for _ in range(64)] == default
    ones = [sum(k >> bit & 1 for k in default) for bit in range(64)]
    assert all(8 < count < 56 for count in ones)  # each Binomial(64, 1/2): 6 sigmas
    assert keys.resolve(own, None, torch.device("meta")) < 2**64


def test_the_first_draw_of_a_thread_may_happen_in_any_mode():
    found = []

    def draw():
        with torch.inference_mode():
            found.append(keys.resolve(None, None, CPU))
        found.append(keys.resolve(None, None, CPU))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert len(set(found)) == 2


def test_the_default_device_does_not_matter():
    torch.manual_seed(1)
    expected = keys.resolve(None, None, CPU)
    torch.manual_seed(1)
    with torch.device("meta"):
        assert keys.resolve(None, None, CPU) == expected


@pytest.mark.parametrize("bad", [-1, 2**64, -(2**63)])
def test_a_key_out_of_range(bad):
    with pytest.raises(ValueError, match=f"key={bad}.*fastinit.key"):
        keys.resolve(None, bad, CPU)


@pytest.mark.parametrize("bad", [1.0, True, "1", torch.tensor(1)])
def test_a_key_is_an_integer(bad):
    with pytest.raises(TypeError, match="key must be an int"):
        keys.resolve(None, bad, CPU)


def test_a_generator_and_a_key_exclude_each_other():
    with pytest.raises(ValueError, match="key=3"):
        keys.resolve(torch.Generator(), 3, CPU)


def test_a_generator_is_a_generator():
    with pytest.raises(TypeError, match="Received: 5"):
        keys.resolve(5, None, CPU)


class CudaGenerator(torch.Generator):
    """A generator that says it lives on a GPU, with the seed and offset of one."""

    seed_value, offset = 11, 8
    device = torch.device("cuda", 0)

    def initial_seed(self):
        return self.seed_value

    def get_offset(self):
        return self.offset

    def set_offset(self, offset):
        self.offset = offset

    def philox_state(self, increment):  # torch 2.15 has it
        self.offset += increment
        return tuple(torch.tensor([number]) for number in (self.seed_value, self.offset - increment, 0))


class OlderGenerator(CudaGenerator):
    @property
    def philox_state(self):
        raise AttributeError


@pytest.mark.parametrize("kind", [CudaGenerator, OlderGenerator])
def test_a_cuda_generator_gives_seed_and_offset_and_advances(kind):
    generator = kind()
    assert keys.resolve(generator, None, torch.device("cuda", 0)) == fastinit.key(11, "philox", 8)
    assert keys.resolve(generator, None, torch.device("cuda", 0)) == fastinit.key(11, "philox", 12)
    assert generator.offset == 16


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "meta"])
def test_a_cuda_generator_serves_its_own_device_alone(device):
    generator = CudaGenerator()
    with pytest.raises(ValueError, match=f"cuda:0.*{device}"):
        keys.resolve(generator, None, torch.device(device))
    assert generator.offset == 8


class Part(str, enum.Enum):
    WEIGHT = "weight"


class Layer(enum.IntEnum):
    FIRST = 7


class Loud(str):
    def __str__(self):
        return super().__str__().upper()


def test_members_of_enumerations_count_as_their_values():
    """What str() of them prints has changed between versions of Python."""
    expected = fastinit.key(0, 7, "weight")
    assert fastinit.key(0, Layer.FIRST, Part.WEIGHT) == fastinit.key(0, numpy.int64(7), Loud("weight")) == expected
    assert fastinit.key(Layer.FIRST) == fastinit.key(7)


HUGE = 10**5000
UNPRINTABLE = {
    "part": lambda: fastinit.key(0, "layer", HUGE),
    "parts": lambda: fastinit.key(0, (HUGE,)),
    "surrogate": lambda: fastinit.key(0, "layer", "\udc80"),
    "key": lambda: fastinit.normal_(torch.empty(2), key=HUGE),
    "keys": lambda: fastinit.normal_(torch.empty(2), key=[HUGE]),
    "seed": lambda: fastinit.initialize_(nn.Linear(1, 1), seed=[HUGE]),
    "std": lambda: fastinit.normal_(torch.empty(2), std=HUGE),
    "a": lambda: fastinit.trunc_normal_(torch.empty(2), a=-HUGE),
    "val": lambda: fastinit.constant_(torch.empty(2), HUGE),
    "fan_in": lambda: fastinit.he_normal_(torch.empty(2, 2), fan_in=HUGE),
    "batch_dims": lambda: fastinit.he_normal_(torch.empty(2, 2), batch_dims=HUGE),
    "groups": lambda: fastinit.dirac_(torch.empty(2, 2, 2), groups=HUGE),
    "n_layer": lambda: fastinit.gpt2_like(-HUGE),
}


@pytest.mark.parametrize("name", UNPRINTABLE)
def test_errors_name_what_cannot_be_printed(name):
    """A lone surrogate, and integers of more digits than Python prints."""
    told = {
        "surrogate": "path of a key.*udc80",
        "part": "path of a key.*16610 bits",
        "parts": "path of a key",
        "keys": "key must",
    }
    with pytest.raises((ValueError, TypeError), match=told.get(name, rf"\b{name}\b")):
        UNPRINTABLE[name]()
