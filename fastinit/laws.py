"""Laws: what an initializer asks of a fill, and the way to say so of initializers of your own.

`fastinit.initialize_` fills what declares its law in one batch, without calling the initializer:

    >>> import functools
    >>> @fastinit.laws.declares(lambda shape, dtype, depth: fastinit.laws.normal(0.0, 0.02 / depth**0.5))
    ... def scaled_(tensor, depth, *, generator=None, key=None):
    ...     return fastinit.normal_(tensor, std=0.02 / depth**0.5, generator=generator, key=key)
    >>> scheme = fastinit.keras_like.override({torch.nn.Linear: {"weight": functools.partial(scaled_, depth=4)}})
    >>> fastinit.initialize_(torch.nn.Linear(3, 3), scheme, seed=0).filled
    ['weight', 'bias']
"""

from fastinit._core.laws import Law, constant, declares, fmod_normal, normal, truncated_normal, uniform

__all__ = ["Law", "constant", "declares", "fmod_normal", "normal", "truncated_normal", "uniform"]
