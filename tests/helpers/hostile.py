"""Plans that both libraries must refuse, as their structures."""

import ctypes

import torch
from helpers.laws import LAWS

from fastinit._backends import abi
from fastinit._core import recipes
from fastinit._core.plan import Plan, whole


def raw(**fields) -> abi.RawPlan:
    """A plan with a recipe of its own, in one of which these fields are set."""
    out, law = torch.zeros(64), recipes.recipe(LAWS["2 sigmas"], torch.float32)
    made, _ = abi.packed([Plan(out, law, 1, whole(out))])
    plan, recipe = abi.RawPlan.from_buffer_copy(made), abi.RawRecipe.from_buffer_copy(abi.raw_recipe(law)[0])
    plan.recipe = ctypes.addressof(recipe)
    for name, value in fields.items():
        setattr(plan if hasattr(plan, name) else recipe, name, value)
    plan.kept = (out, law, recipe)
    return plan


REFUSED = [  # fields of a plan or its recipe, and the status
    ({}, 0),
    ({"out": None}, 1),
    ({"recipe": None}, 1),
    ({"table": None}, 1),
    ({"dims": 1, "layout": None}, 1),
    ({"kind": -1}, 2),
    ({"kind": 5}, 2),
    ({"kind": 4}, 2),
    ({"dtype": 6}, 2),
    ({"dtype": 8}, 3),
    ({"rows": -1}, 4),
    ({"start": -1}, 4),
    ({"rows": 2**40, "cols": 2**40}, 4),
    ({"rows": 2, "pitch": 2**62, "start": 2**62}, 4),
    ({"dims": 65, "layout": 1}, 5),
    ({"dims": -1}, 5),
    ({"cells": 33}, 6),
    ({"terms": 7}, 6),
    ({"top_bits": 24}, 6),
    ({"dtype": 1}, 6),
]
