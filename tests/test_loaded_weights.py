"""transformers loads a checkpoint, then initializes the model: fastinit fills what was missing, and nothing that was loaded."""

import contextlib
import io
import os

import pytest
import torch
from helpers.laws import same_bits
from torch import nn

import fastinit

pytestmark = pytest.mark.extra
os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", "5")

MARK = "_is_hf_initialized"
KEY = fastinit.key(0, "loaded")
MISSING = ("second.bias", "orthogonal.weight")


class Config(transformers.PretrainedConfig):
    model_type = "fastinit_test"

    def __init__(self, tie_word_embeddings=True, **others):
        super().__init__(tie_word_embeddings=tie_word_embeddings, **others)


class Orthogonal(nn.Linear):
    pass


class Model(transformers.PreTrainedModel):
    config_class = Config
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012
    custom = True

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(9, 6, padding_idx=2)
        self.first, self.second, self.orthogonal = nn.Linear(6, 6), nn.Linear(6, 6), Orthogonal(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.scale = nn.Parameter(torch.empty(6, 6))
        self.head = nn.Linear(6, 9, bias=False)
        self.post_init()

    @classmethod
    def is_custom_code(cls):
        """Whether transformers leaves out modules that were loaded whole; of models of its own it does not."""
        return cls.custom

    def get_input_embeddings(self):
        return self.embedding

    def get_output_embeddings(self):
        return self.head

    def _init_weights(self, module):
        if isinstance(module, Orthogonal):
            fastinit.orthogonal_(module.weight, key=KEY)
            fastinit.constant_(module.bias, 0.25)
        elif isinstance(module, nn.Linear):
            fastinit.trunc_normal_(module.weight, std=0.02, key=KEY)
            if module.bias is not None:
                fastinit.constant_(module.bias, -0.5)
        elif isinstance(module, nn.Embedding):
            fastinit.normal_(module.weight, std=0.02, key=KEY)
            fastinit.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.BatchNorm1d):
            for ones, zeros in ((module.weight, module.bias), (module.running_var, module.running_mean)):
                fastinit.ones_(ones)
                fastinit.zeros_(zeros)
        elif isinstance(module, Model):
            fastinit.glorot_uniform_(module.scale, key=KEY)


class OfTheLibrary(Model):
    custom = False


kinds = pytest.mark.parametrize("kind", [Model, OfTheLibrary])


@pytest.fixture(autouse=True)
def no_progress_bars():
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def saved(folder, lacking=(), **others):
    """A checkpoint of values that no initializer gives, padding row and statistics too; returns them by name."""
    model = Model(Config())
    with torch.no_grad():
        for number, tensor in enumerate([*model.parameters(), *model.buffers()]):
            tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) + 100 * number + 7)
    values = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in lacking}
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder, state_dict=values | others)
    values.pop("head.weight", None)
    return values


def test_what_transformers_marks(tmp_path):
    """Facts that the package builds on: parameters and buffers that were loaded, themselves; the marks stay when it is done."""
    values = saved(tmp_path, MISSING)
    model = Model.from_pretrained(tmp_path)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    assert {name for name, tensor in tensors.items() if getattr(tensor, MARK, False)} == set(values)
    weight = model.second.weight
    assert not any(hasattr(tensor, MARK) for tensor in (weight.data, weight.detach(), weight[0], model.second.bias))


@kinds
def test_what_was_loaded_stays_and_what_was_missing_is_filled(kind, tmp_path):
    values = saved(tmp_path, MISSING)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    model, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(MISSING) and torch.equal(torch.get_rng_state(), state)
    found = model.state_dict()
    for name, value in values.items():
        assert same_bits(found[name], value), name
    assert (model.second.bias == -0.5).all()
    assert same_bits(model.orthogonal.weight.detach(), fastinit.orthogonal_(torch.empty(6, 6), key=KEY))


@kinds
def test_tied_weights_are_those_of_the_checkpoint_or_filled_once(kind, tmp_path):
    values = saved(tmp_path)
    model = kind.from_pretrained(tmp_path)
    assert model.head.weight is model.embedding.weight and same_bits(model.head.weight.detach(), values["embedding.weight"])
    saved(tmp_path, ("embedding.weight", "head.weight"))
    model = kind.from_pretrained(tmp_path)
    expected = fastinit.normal_(torch.empty(9, 6), std=0.02, key=KEY)
    expected[2] = 0
    assert model.head.weight is model.embedding.weight and same_bits(model.head.weight.detach(), expected)


@kinds
def test_a_weight_of_another_shape_is_filled(kind, tmp_path):
    saved(tmp_path, scale=torch.full((4, 4), 7.0))
    model = kind.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    assert same_bits(model.scale.detach(), fastinit.glorot_uniform_(torch.empty(6, 6), key=KEY))


def test_initialize_leaves_what_was_loaded_and_says_so(tmp_path):
    values = saved(tmp_path, MISSING)
    model = Model.from_pretrained(tmp_path)
    scheme = fastinit.keras_like.override({"scale": fastinit.normal_})
    report = fastinit.initialize_(model, scheme, seed=0)
    assert report.filled == ["second.bias", "orthogonal.weight"] and {*values, "head.weight"} == set(report.left)
    assert all(same_bits(model.state_dict()[name], value) for name, value in values.items())
    assert (model.second.bias == 0).all()
