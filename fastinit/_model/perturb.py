"""Noise onto the parameters of a whole model: names become keys, initializers become laws, one batched blend for each device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fastinit._blend import coefficients, pairs, run
from fastinit._core import keys
from fastinit._core.laws import Initializer, Law
from fastinit._core.modes import ieee_arithmetic, is_flushing, safe_torch
from fastinit._core.plan import Blending
from fastinit._fill import check_backends
from fastinit._model.materialize import kind_of
from fastinit._model.noise import OldValues, Planner, Step, Where, check_covered, step_of
from fastinit._model.report import Entry, Report
from fastinit._model.sharing import sharers_of, sources
from fastinit._model.slots import Slot, check_tensors, slots
from fastinit._model.tasks import check_rules
from fastinit._schemes.naming import name_of, name_of_dtype
from fastinit._schemes.scheme import Scheme
from fastinit._torch import written

_ALL_FROZEN = (
    "all that rules name is frozen (requires_grad is False), and nothing was perturbed. Rules for full names perturb what is "
    "frozen, too: fastinit.Scheme({'*': fastinit.normal_})."
)


def perturb_(
    model: nn.Module,
    scheme: Scheme | Initializer,
    *,
    seed: int | Sequence[int],
    add: float | Sequence[float],
    keep: float = 1.0,
    source: Mapping[str, Tensor] | None = None,
    where: Where | None = None,
) -> Report:
    """Add noise to a model: ``keep * w`` plus the sum of ``add[n] *`` what `initialize_` fills by ``seed[n]``.

    Each parameter's noise has the key that `initialize_` would fill it by, ``fastinit.key(seed, name)``. It depends on the seed,
    the canonical name, the initializer, the whole shape and the dtype, and on nothing else. The arithmetic is that of `blend_`:
    one pass over memory for any number of seeds, no tensors of noise, the same bits on all devices and meshes. All parameters
    on a device take one call.

    So an evolution strategy perturbs by ``perturb_(model, normal_, seed=s, add=sigma)``, takes that back by ``add=-sigma``, and
    updates by one call with the seeds of its members and their weights. ``perturb_(model, keras_like, seed=1, keep=0.4,
    add=0.1)`` shrinks and perturbs. With the seed of `initialize_`, ``keep=1 - rate, add=rate`` pulls toward the initial
    weights, of which no copy is kept.

    Parameters that share memory are perturbed once, as `initialize_` fills them. Frozen ones (requires_grad is False) are left,
    unless a rule of yours names them by a full name, or by a pattern for full names, as ``Scheme({"*": normal_})`` does: models
    that only infer are often all frozen. Weights under a parametrization with an inverse are set through it. Buffers
    are left. A padding row of an embedding gets no noise. Weights loaded from a checkpoint are perturbed like any other.

    Args:
        model: the model, with its memory. DTensors are perturbed shard by shard, without communication.
        scheme: a `Scheme`, or one initializer for all parameters, such as `normal_`: those that `blend_` takes. A rule None
            leaves a parameter.
        seed: any integer, or a sequence of them.
        add: what the noise is multiplied by: finite, or a sequence of as many numbers as there are seeds.
        keep: what the old values are multiplied by: finite. 1 keeps them exactly; 0 reads nothing.
        source: old values by name, such as a snapshot ``{name: p.clone() for name, p in model.named_parameters()}``: perturbing
            from it never drifts. It must have all parameters that are perturbed, of their shapes, dtypes, devices and
            shardings; what it has besides is ignored. None: each parameter's own values.
        where: for plain tensors that are shards of larger ones (vLLM, Megatron): called as ``where(name, tensor)`` it returns
            None for a whole tensor; else the whole's shape, and for each axis the indices that the tensor holds: the first one, a
            range, or a list of ranges, such as `shard.indices` returns.

    Returns:
        A `Report` of what was perturbed (state "filled"), tied, left, frozen.

    Warns:
        UserWarning: all that rules name is frozen, and nothing was perturbed.

    Raises:
        TypeError, ValueError: an argument is wrong, as in `blend_`; parameters that no rule names; an initializer that declares
            nothing; rules of `Scheme.override` and for full names that match nothing; modules that cannot be initialized;
            parameters on meta. They are named, and nothing was written.
        RuntimeError: no backend can serve a device as asked, and nothing was written; or an initializer without a law failed: it
            says where, and what had been written.

    Reference:
        J. T. Ash and R. P. Adams, [On Warm-Starting Neural Network Training](https://arxiv.org/abs/1910.08475), 2020: shrink and
        perturb. S. Kumar, H. Marklund and B. Van Roy, [Maintaining Plasticity in Continual Learning via Regenerative
        Regularization](https://arxiv.org/abs/2308.11958), 2023: toward the initial weights. Others in `blend_`.

    Examples:
        >>> model = nn.Linear(3, 2)
        >>> print(fastinit.perturb_(model, fastinit.normal_, seed=[1, 2], add=[0.01, -0.01]))
        name    shape  dtype    state   by
        weight  2x3    float32  filled  normal_, 2 keys
        bias    2      float32  filled  normal_, 2 keys
        seeds 1, 2: 2 filled
    """
    if is_flushing():  # coefficients may be subnormal
        with ieee_arithmetic():
            return perturb_(model, scheme, seed=seed, add=add, keep=keep, source=source, where=where)
    rules = _scheme_of(model, scheme)
    seeds, factors = pairs("seed", seed, add)
    for each in seeds:
        keys.key(each)  # names a wrong one
    coefficients(factors, keep, torch.float64)  # likewise
    found, unused = slots(model, rules, "")
    check_rules(unused)
    check_tensors(found)
    owners = sources(found)
    steps = {owner: step_of(found[owner], sharers) for owner, sharers in sharers_of(found, owners).items()}
    check_covered(list(steps.values()))
    old = None if keep == 0 or source is None else OldValues(source, [slot for slot in found if not slot.parametrized])
    filled = [step for step in steps.values() if step.state == "filled"]
    for key_of in [keys.of_names(int(each)) for each in seeds]:
        for step in filled:
            step.keys.append(key_of(step.slot.name))
    with torch.no_grad(), ExitStack() as stack:
        blendings = _planned(Planner(stack, factors, keep, old, where), filled)
        check_backends(blending.out.device for blending in blendings)
        _carry_out(filled, blendings)
        for step in filled:
            _tell(step)
    if not filled and any(step.state == "frozen" for step in steps.values()):
        warnings.warn(_ALL_FROZEN, UserWarning, stacklevel=2)
    entries = (_entry_of(slot, steps[owner], found[owner] is not slot) for slot, owner in zip(found, owners, strict=True))
    return Report(_one_or_all(seeds), tuple(entries), tuple(rule.words for rule in unused))


def _scheme_of(model: Any, scheme: Any) -> Scheme:
    """The scheme; of an initializer the one that has it for all parameters."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"perturb_ takes a torch.nn.Module. Received: {model!r} ({type(model).__name__}). "
            "Pass the model, or call blend_ on a tensor."
        )
    if isinstance(scheme, Scheme):
        return scheme
    if not callable(scheme) or isinstance(scheme, type):
        raise TypeError(
            f"scheme must be a fastinit.Scheme, or an initializer. Received: {scheme!r} ({type(scheme).__name__}). "
            "Pass e.g. fastinit.normal_."
        )
    return Scheme({nn.Module: {"*": scheme}})


def _planned(planner: Planner, steps: list[Step]) -> list[Blending]:
    """All that backends do."""
    blendings: list[Blending] = []
    for step in steps:
        try:
            blendings += planner.blendings(step)
        except (TypeError, ValueError, RuntimeError, MemoryError) as error:
            raise kind_of(error)(f"{step.slot.name}: {error} (nothing was written)") from error
    return blendings


def _carry_out(steps: list[Step], blendings: list[Blending]) -> None:
    """Blend: first what no law draws, which is what may fail, then all the rest in one call for each device.

    Raises:
        RuntimeError, torch.OutOfMemoryError, MemoryError: an initializer failed; says where, and what had been written.
    """
    done: list[str] = []
    for step in (step for step in steps if step.late):
        try:
            assert step.late is not None
            step.late()
        except Exception as error:
            state = f"Written: {', '.join(done)}" if done else "Nothing was written"
            raise kind_of(error)(f"perturbing failed at {step.slot.name}: {error}. {state}.") from error
        done.append(step.slot.name)
    run(blendings)


def _tell(step: Step) -> None:
    """Tell autograd; or give a parametrization what its weight becomes."""
    if step.made is None:
        written(step.slot.tensor)
        return
    with torch.no_grad(), safe_torch():
        setattr(step.slot.module, step.slot.attribute, step.made)


def _entry_of(slot: Slot, step: Step, tied: bool) -> Entry:
    """A slot's line of the report."""
    filled = step.state == "filled" and not tied
    drawn = filled and not (isinstance(step.noise, Law) and step.noise.name == "constant")
    return Entry(
        name=slot.name,
        shape=tuple(slot.tensor.shape),
        dtype=name_of_dtype(slot.tensor.dtype),
        state="tied" if tied and step.state == "filled" else step.state,
        kind=slot.kind,
        initializer=name_of(step.initializer) if filled else None,
        key=_one_or_all(step.keys) if drawn else None,
        source=step.slot.name if tied and step.state == "filled" else None,
    )


def _one_or_all(numbers: Sequence[int]) -> Any:
    return numbers[0] if len(numbers) == 1 else tuple(numbers)
