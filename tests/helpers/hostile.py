"""Plans that both libraries must refuse, as their bytes."""

import torch
from helpers.laws import LAWS

from fastinit._backends import abi
from fastinit._core import recipes
from fastinit._core.plan import Plan, whole


def raw(**fields) -> abi.Raw:
    out = torch.zeros(64)
    made, kept = abi.raw_plan(Plan(out, recipes.recipe(LAWS["2 sigmas"], torch.float32), 1, whole(out)))
    plan = abi.Raw.from_buffer_copy(made)
    for name, value in fields.items():
        setattr(plan, name, value)
    plan.kept = (out, kept)
    return plan


REFUSED = [  # fields of a plan, and its status
    ({}, 0),
    ({"out": None}, 1),
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
