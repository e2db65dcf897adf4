"""What the curves say: how many runs converged, after how many epochs, and whether two kinds of runs differ; as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.convergence import data, optimizers, runs, starts
from benchmarks.convergence.network import Network
from benchmarks.convergence.runs import AUTHORS, EPOCHS, KERAS_ITSELF, LOSSES, MATCHED, TWINS, Run
from benchmarks.convergence.training import BATCH, Curve

# Held-out accuracy at which a run has converged, set after trials and before the study: near what a run that succeeds ends with.
THRESHOLD = {"digits": 0.95, "vowels": 0.90, "pixels": 0.80}
CONFIDENCE = 0.95
# What the port's author saw under RMSprop with torch's constants and MAE, by g1 and g2; one run each, as far as is known.
AUTHOR_SAW = {("√2", "1"): "converged", ("√2", "√2"): "converged fast", ("2", "1"): "converged", ("2", "2"): "converged slowly"}

AUTHORS_TASKS = {"digits": "grid", "vowels": "grid", "pixels": "hard"}  # task -> the part of the study that has the pairs on it

Results = Mapping[Run, Curve]


class Table(NamedTuple):
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Outcome(NamedTuple):
    """Of runs that differ in their seeds, or in what the question is not about."""

    epochs: list[float]  # to the threshold; infinite where it was not reached
    final: list[float]  # held-out accuracy after the last epoch
    given_up: list[int]  # classes that no held-out sequence is given

    @property
    def converged(self) -> int:
        return sum(map(math.isfinite, self.epochs))

    def counts(self) -> str:
        return f"{self.converged}/{len(self.epochs)}"

    def chance(self) -> str:
        """The counts, and Wilson's interval for the chance to converge."""
        from scipy.stats import binomtest

        low, high = binomtest(self.converged, len(self.epochs)).proportion_ci(CONFIDENCE, method="wilson")
        return f"{self.counts()} ({100 * low:.0f} to {100 * high:.0f} %)"

    def speed(self) -> str:
        """The median of the epochs, and its interval."""
        return ranged(self.epochs, epochs)

    def accuracy(self) -> str:
        return ranged(self.final, lambda share: f"{share:.1%}".removesuffix("%")) + " %"

    def text(self) -> str:
        return f"{self.counts()}; {self.speed()}"


def epochs(number: float) -> str:
    return f"{number:.3g}" if math.isfinite(number) else "never"


def ranged(values: Sequence[float], text: Callable[[float], str]) -> str:
    """A median with its interval of confidence, which is one of order statistics: it assumes no distribution."""
    from scipy.stats import binom

    ordered = sorted(values)
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5))
    low, high = ordered[max(rank, 1) - 1], ordered[-max(rank, 1)]
    return f"{text(median(ordered))} ({text(low)} to {text(high)})"


def first_at(curve: Curve, task: str) -> float:
    """The first epoch, from 1, after which a run was at its task's threshold."""
    needed = THRESHOLD[task] * len(data.load(task).test[1])
    return next((float(number) for number, right in enumerate(curve.correct, 1) if right >= needed), math.inf)


def chosen(results: Results, **wanted: str | Iterable[str]) -> Results:
    """The runs whose fields are these, or one of these."""
    allowed = {name: {value} if isinstance(value, str) else set(value) for name, value in wanted.items()}
    return {run: curve for run, curve in results.items() if all(getattr(run, name) in allowed[name] for name in allowed)}


def outcome(results: Results, **wanted: str | Iterable[str]) -> Outcome:
    found = chosen(results, **wanted)
    return Outcome(
        [first_at(curve, run.data) for run, curve in found.items()],
        [curve.correct[-1] / len(data.load(run.data).test[1]) for run, curve in found.items()],
        [curve.given_up for curve in found.values()],
    )


def authors(results: Results, task: str, start: str | Iterable[str]) -> Outcome:
    """Under the author's loss and optimizer."""
    loss, optimizer = AUTHORS
    return outcome(results, part=AUTHORS_TASKS[task], data=task, loss=loss, optimizer=optimizer, start=start)


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the test of Mann and Whitney: the chance that two samples of one law differ so in their ranks."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(one, other).pvalue)


def of_pairs(method: str) -> list[str]:
    return [starts.pair(*pair, method) for pair in starts.PAIRS]


def outcomes(results: Results) -> Table:
    """Every kind of run that there is, whatever is missing."""
    rows = []
    for kind in dict.fromkeys(run[:-1] for run in results):
        found = outcome(results, **dict(zip(Run._fields, kind, strict=False)))
        rows.append([*kind[1:], found.text(), found.accuracy()])
    return Table("Every kind of run", (*Run._fields[1:-1], "converged; epochs", "final accuracy"), rows)


def grid(results: Results) -> Table:
    """Every loss and optimizer: the starts beside each other, the pairs of gains together."""
    kinds = {"torch's defaults": ["torch"], "keras_like": ["keras_like"], "pairs, fmod": of_pairs("fmod")}
    kinds["pairs, exact"] = of_pairs("exact")
    rows = []
    for task in ("digits", "vowels"):
        for loss in LOSSES:
            for optimizer in optimizers.COMPARED:
                where = {"part": "grid", "data": task, "loss": loss, "optimizer": optimizer}
                rows.append([task, loss, optimizer, *(outcome(results, **where, start=kind).text() for kind in kinds.values())])
    title = "Converged of all; median of the epochs to the threshold, with its 95 % interval"
    return Table(title, ("data", "loss", "optimizer", *kinds), rows)


def pairs(results: Results) -> Table:
    """The author's nine pairs under the author's loss and optimizer, beside what the author saw."""
    saw = {starts.pair(*pair, "fmod"): AUTHOR_SAW.get(pair, "did not converge") for pair in starts.PAIRS}
    saw |= {"torch": "did not converge", "keras_like": "converged, in Keras"}
    rows = []
    for start, told in saw.items():
        found = [authors(results, task, start) for task in AUTHORS_TASKS]
        rows.append([start, told, *(f"{one.chance()}; {one.speed()}; {one.accuracy()}" for one in found)])
    title = "MAE, RMSprop with torch's constants: converged (chance); epochs to the threshold; final accuracy"
    return Table(title, ("start: fmod g1 g2", "the author saw", *AUTHORS_TASKS), rows)


def hard(results: Results) -> Table:
    """The hard task: which layer's weights matter, and whether Adam makes up for them."""
    whole: dict[str, str | list[str]] = {"Keras's in all: keras_like": "keras_like", "torch's in all": "torch"}
    kinds = {
        AUTHORS[1]: {
            **whole,
            "Keras's but in the convolution": "torch's conv",
            "Keras's but in the LSTM": "torch's lstm",
            "Keras's but in the dense layer": "torch's dense",
            "the LSTM's Keras's: three of these": ["keras_like", "torch's conv", "torch's dense"],
            "the LSTM's torch's: two of these": ["torch", "torch's lstm"],
            "all pairs, fmod": of_pairs("fmod"),
        },
        "Adam": {**whole, "pairs 1 1 and √2 √2, fmod": [starts.pair(g, g, "fmod") for g in ("1", "√2")]},
    }
    rows = []
    for optimizer in kinds:
        base = outcome(results, part="hard", optimizer=optimizer, start="keras_like")
        for name, start in kinds[optimizer].items():
            found = outcome(results, part="hard", optimizer=optimizer, start=start)
            compared = ((base.epochs, found.epochs), (base.final, found.final))
            p_epochs, p_final = ("" if start == "keras_like" else probability(p_value(*samples)) for samples in compared)
            gave_up = f"{sum(map(bool, found.given_up))}/{len(found.final)}"
            rows.append([optimizer, name, found.chance(), found.speed(), p_epochs, found.accuracy(), p_final, gave_up])
    columns = ("optimizer", "initial weights", "converged", "epochs", "p", "final accuracy", "p", "a class given up")
    return Table("Pixels, MAE; p against keras_like (Mann-Whitney)", columns, rows)


def gains(results: Results) -> Table:
    """Whether a gain matters: runs of one value of it against those of another, the other gain whatever it is."""
    from scipy.stats import kruskal

    rows = []
    for task, (which, name) in product(AUTHORS_TASKS, enumerate(("g1", "g2"))):
        alike = [[starts.pair(*pair, "fmod") for pair in starts.PAIRS if pair[which] == gain] for gain in starts.GAINS]
        found = [authors(results, task, named) for named in alike]
        p = kruskal(*(one.epochs for one in found)).pvalue
        rows.append([task, name, *(one.text() for one in found), probability(p)])
    return Table("Each gain by itself", ("data", "gain", *starts.GAINS, "p (Kruskal-Wallis)"), rows)


def luck(results: Results) -> Table:
    """Whether the pairs have chances of their own to converge, or one that all share."""
    from scipy.stats import chi2_contingency

    rows = []
    for task in AUTHORS_TASKS:
        every = authors(results, task, of_pairs("fmod"))
        each = [authors(results, task, start) for start in of_pairs("fmod")]
        counts = [[one.converged for one in each], [len(one.epochs) - one.converged for one in each]]
        alike = probability(chi2_contingency(counts).pvalue) if all(map(any, counts)) else "no run differs"
        expected = len(starts.PAIRS) * every.converged / len(every.epochs)
        rows.append([task, every.chance(), alike, f"{expected:.1f} of {len(starts.PAIRS)}"])
    columns = ("data", "converged, all pairs", "p that all share one chance (chi-squared)", "expected of one run each")
    return Table("Whether some pairs are better than others", columns, rows)


def methods(results: Results) -> Table:
    """fmod against the exact law, all else the same."""
    rows = []
    for task in ("digits", "vowels"):
        for optimizer in optimizers.COMPARED:
            where = {"part": "grid", "data": task, "optimizer": optimizer}
            folded, exact = (outcome(results, **where, start=of_pairs(method)) for method in starts.METHODS)
            p = probability(p_value(folded.epochs, exact.epochs))
            rows.append([task, optimizer, *(f"{one.text()}; {one.accuracy()}" for one in (folded, exact)), p])
    columns = ("data", "optimizer", *starts.METHODS, "p (Mann-Whitney)")
    return Table("fmod against the exact truncated normal, all pairs, MAE and MSE", columns, rows)


def twin(results: Results) -> Table:
    """Keras itself beside ports of more and more of its defaults."""
    constants, start = MATCHED
    rows = []
    for task, loss, optimizer in runs.TWIN_TASKS:
        itself = outcome(results, part="twin", data=task, loss=loss, optimizer=optimizer, constants=KERAS_ITSELF)
        port = outcome(results, part="twin", data=task, loss=loss, optimizer=TWINS[optimizer], constants=constants, start=start)
        cells = [task, loss, optimizer, itself.speed(), port.speed(), probability(p_value(itself.epochs, port.epochs))]
        rows.append([*cells, itself.accuracy(), port.accuracy(), probability(p_value(itself.final, port.final))])
    columns = ("data", "loss", "optimizer", "epochs: Keras", "port", "p", "accuracy: Keras", "port", "p (Mann-Whitney)")
    return Table("Keras itself, and the port with everything aligned", columns, rows)


def switches(results: Results) -> Table:
    """From the port to the letter, one difference switched back to what torch does."""
    fields = ("optimizer", "constants", "start")
    letter = (TWINS["rmsprop"], *MATCHED)
    rows = []
    for change in (letter, *runs.switched()):
        cells = [difference(change, letter)]
        for task in ("digits", "vowels"):
            base, found = (
                outcome(results, data=task, loss="MAE", part=("twin", "switch"), **dict(zip(fields, way, strict=True)))
                for way in (letter, change)
            )
            p = "" if change == letter else probability(p_value(base.epochs, found.epochs))
            cells += [found.text(), p]
        rows.append(cells)
    columns = ("one difference from Keras", "digits", "p", "vowels", "p (Mann-Whitney)")
    return Table("MAE, Keras's RMSprop, keras_like: what each difference does", columns, rows)


def difference(change: Sequence[str], letter: Sequence[str]) -> str:
    """What is not as in the port to the letter, in words."""
    if tuple(change) == tuple(letter):
        return "none: the port to the letter"
    (old, new), *_ = ((a, b) for a, b in zip(letter, change, strict=True) if a != b)
    return {
        "RMSprop, Keras's constants": "epsilon beside the root (torch's RMSprop)",
        "RMSprop, torch's constants": "torch's RMSprop with its own constants",
        "torch": "all constants of the layers torch's" if old == "Keras" else "all initial weights torch's",
        "Keras, momentum of torch": "momentum 0.1 of BatchNorm",
        "Keras, norm_eps of torch": "eps 1e-5 of BatchNorm",
        "Keras, unbiased variance": "unbiased running variance of BatchNorm",
        "Keras, two biases": "two trained biases of the LSTM",
        "Keras, no dropout": "no dropout (in neither a default)",
        "torch's conv": "initial weights of the Conv1d torch's",
        "torch's lstm": "initial weights of the LSTM torch's",
        "torch's dense": "initial weights of the Linear torch's",
    }[new]


def given_up(results: Results) -> Table:
    """What not converging looks like: classes that a network gives to nothing."""
    rows = []
    for loss, optimizer in ((loss, optimizer) for loss in LOSSES for optimizer in optimizers.COMPARED):
        cells = [loss, optimizer]
        for task in ("digits", "vowels"):
            found = outcome(results, part="grid", data=task, loss=loss, optimizer=optimizer)
            cells += [found.counts(), str(sum(map(bool, found.given_up)))]
        rows.append(cells)
    columns = ("loss", "optimizer", "digits: converged", "with a class given up", "vowels: converged", "with a class given up")
    return Table("All starts together", columns, rows)


def gradients(results: Results) -> Table:
    """How large the first gradients are, what an epsilon must be compared with: of the starts alone, whatever the results."""
    layers, rows = ("conv", "lstm", "dense"), []
    for task, start in product(("digits", "vowels"), ("torch", "keras_like", *(starts.pair(g, g, "fmod") for g in starts.GAINS))):
        sequences = data.load(task)
        sizes = [first_gradients(runs.network(seed, start, sequences), sequences, layers) for seed in range(runs.SEEDS)]
        rows.append([task, start, *(f"{median(of_layer):.1e}" for of_layer in zip(*sizes, strict=True))])
    return Table("Root mean square of the first gradients of the MAE, median of the seeds", ("data", "start", *layers), rows)


def first_gradients(network: Network, task: data.Sequences, layers: Sequence[str]) -> list[float]:
    """Of the parameters of each layer, by a batch that torch's generator chooses."""
    chosen = torch.randperm(len(task.train[1]))[:BATCH]
    sequences, labels = (part[chosen] for part in task.train)
    targets = nn.functional.one_hot(labels, task.classes).float()
    nn.functional.l1_loss(network(sequences), targets).backward()
    found = ([p.grad.flatten() for p in network.get_submodule(layer).parameters() if p.grad is not None] for layer in layers)
    return [torch.cat(each).square().mean().sqrt().item() for each in found]


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def budget() -> str:
    """What converging means, in a sentence."""
    parts = [f"{task} {THRESHOLD[task]:.0%} within {EPOCHS[task]} epochs" for task in THRESHOLD]
    return f"Converged: held-out accuracy of {', '.join(parts)}; {runs.SEEDS} seeds each."


TABLES = (pairs, luck, gains, hard, grid, methods, given_up, gradients, twin, switches)
