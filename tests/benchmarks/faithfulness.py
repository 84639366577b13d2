"""How faithful attributions are on the demo classifier: `python -m tests.benchmarks.faithfulness [--reviews N]`.

Held-out reviews, the predicted class, a reference of padding at the input's positions. Compared are the exact rules,
captum's DeepLift as shipped, captum's Integrated Gradients with 50 steps, and an order drawn at random. A token's score
is the sum of its attributions over the hidden axis; special tokens are neither ranked nor replaced.

Comprehensiveness (DeYoung et al. 2020, ERASER, https://arxiv.org/abs/1911.03429, section 4): the drop of the target's
probability when the tokens ranked highest are taken away, here by `[MASK]` in their place. AOPC is the area over that
curve as Samek et al. define it (https://arxiv.org/abs/1509.06321, section III): the mean of the drops after 0 to n of
the n tokens. Two other samplings of the same curve stand beside it, so that no conclusion hangs on one choice:
ERASER's bins (1, 5, 10, 20 and 50 % of the tokens) and every tenth up to a half, each rounded up to whole tokens.

Intervals are 95 % percentile bootstraps over reviews, of paired differences too. All methods take turns on each review.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import captum.attr
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.benchmarks.results import add_option, printed
from tracer.demo.model import TARGET, TEXT, demo_model
from tracer.demo.train import download_reviews, split_reviews
from tracer.exact.deeplift import DeepLift
from tracer.subject.text import Subject, make_subject

ERASER_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5)
STEPS, SEED = 50, 519
EXACT, CAPTUM, INTEGRATED, RANDOM = "exact", "captum", f"IG-{STEPS}", "random"
COSINE_BUDGET, DELTA_BUDGET = 0.9, 1e-5

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """One method on one review: token scores (T,), drops (n,) after masking 1 to n words, delta, seconds."""

    scores: Vector
    drops: Vector
    delta: float
    seconds: float


def ranked(scores: Vector, special: Sequence[bool]) -> list[int]:
    """Places of the words, the highest score first, ties in the text's order."""
    words = [place for place, added in enumerate(special) if not added]
    return sorted(words, key=lambda place: -scores[place])


def masked(ids: Tensor, order: Sequence[int], mask_id: int) -> Tensor:
    """Token ids (n + 1, T): row k has the first k places of `order`, of n, replaced by `mask_id`."""
    rows = ids.repeat(len(order) + 1, 1)
    for count, place in enumerate(order):
        rows[count + 1 :, place] = mask_id
    return rows


def area(drops: Vector) -> float:
    """AOPC: the mean of the drops after 0, 1, ..., n words; the first is 0, `drops` (n,) holds the others."""
    return float(drops.sum() / (len(drops) + 1))


def area_at(drops: Vector, shares: Sequence[float]) -> float:
    """The mean of the drops at each share of the n words, rounded up."""
    return float(np.mean([drops[max(math.ceil(share * len(drops)), 1) - 1] for share in shares]))


def interval(values: Vector, statistic: Callable[..., Any] = np.mean, draws: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic over reviews, the mean unless another is given."""
    generator = np.random.default_rng(SEED)
    found = statistic(values[generator.integers(0, len(values), (draws, len(values)))], axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def cosine(a: Vector, b: Vector) -> float:
    """Cosine of two vectors, 0 where one is 0."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def spearman(a: Vector, b: Vector) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one is constant."""
    return cosine(*(_ranks(v) - (len(v) - 1) / 2 for v in (a, b)))


def _ranks(values: Vector) -> Vector:
    _distinct, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Vector = (ends - (counts + 1) / 2)[group]
    return means


def attributors(subject: Subject) -> dict[str, Callable[[], Tensor]]:
    """Each method's attributions (1, T, H) of one subject."""
    given: dict[str, Any] = {"target": subject.target, "additional_forward_args": subject.additional_forward_args}
    model, x, reference = subject.model, subject.inputs, subject.baselines
    return {
        EXACT: lambda: DeepLift(model).attribute(x, reference, **given),
        CAPTUM: lambda: captum.attr.DeepLift(model).attribute(x, reference, **given),
        INTEGRATED: lambda: captum.attr.IntegratedGradients(model).attribute(x, reference, **given, n_steps=STEPS),
    }


def change(subject: Subject) -> float:
    """f(x) − f(x') of the target's logit."""
    with torch.no_grad():
        logits = [subject.model(t, *subject.additional_forward_args)[0] for t in (subject.inputs, subject.baselines)]
    return float(logits[0][subject.target].double() - logits[1][subject.target].double())


def token_scores(attributions: Tensor) -> Vector:
    """Σ over the hidden axis, (T,)."""
    scores: Vector = attributions.detach()[0].double().sum(-1).numpy()
    return scores


def measure(model: nn.Module, tokenizer: Any, text: str, generator: torch.Generator) -> dict[str, Figures]:
    """All methods' figures on one text."""
    subject = make_subject(model, tokenizer, text, reference="pad", reference_positions="same")
    difference = change(subject)
    scores: dict[str, Vector] = {}
    seconds: dict[str, float] = {}
    for name, attribute in attributors(subject).items():
        start = time.perf_counter()
        attributions = attribute()
        seconds[name] = time.perf_counter() - start
        scores[name] = token_scores(attributions)
    scores[RANDOM] = torch.rand(len(subject.tokens), generator=generator, dtype=torch.float64).numpy()
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(subject.tokens)))
    found = {}
    for name, own in scores.items():
        rows = masked(ids, ranked(own, subject.special), tokenizer.mask_token_id)
        with torch.no_grad():
            kept = model(input_ids=rows).logits.double().softmax(-1)[:, subject.target].numpy()
        found[name] = Figures(own, kept[0] - kept[1:], float(own.sum()) - difference, seconds.get(name, math.nan))
    return found


def table(found: Sequence[Mapping[str, Figures]]) -> list[str]:
    """The lines of the table and of the comparison of exact rules with Integrated Gradients."""
    methods = (EXACT, INTEGRATED, CAPTUM, RANDOM)
    every = {name: np.array([area(f[name].drops) for f in found]) for name in methods}
    eraser = {name: np.array([area_at(f[name].drops, ERASER_SHARES) for f in found]) for name in methods}
    tenths = {name: np.array([area_at(f[name].drops, TENTHS) for f in found]) for name in methods}
    lines = [
        "| | AOPC | 95 % interval | ERASER bins | 10 to 50 % | cosine | Spearman | median \\|delta\\| | median time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in methods:
        low, high = interval(every[name])
        pairs = [(f[name].scores, f[INTEGRATED].scores) for f in found]
        angle = np.median([cosine(*pair) for pair in pairs])
        rank = np.median([spearman(*pair) for pair in pairs])
        line = f"| {name} | {every[name].mean():.3f} | {low:.3f} to {high:.3f} | {eraser[name].mean():.3f} "
        line += f"| {tenths[name].mean():.3f} | {angle:.3f} | {rank:.3f} |"
        if name == RANDOM:
            lines.append(f"{line} – | – |")
            continue
        delta = np.median([abs(f[name].delta) for f in found])
        lines.append(f"{line} {delta:.1e} | {np.median([f[name].seconds for f in found]) * 1000:.0f} ms |")
    lines.append("")
    for label, values in (("AOPC", every), ("ERASER bins", eraser), ("10 to 50 %", tenths)):
        gain = values[EXACT] - values[INTEGRATED]
        low, high = interval(gain)
        lines.append(f"- {label}, {EXACT} − {INTEGRATED}: {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]")
    angles = np.array([cosine(f[EXACT].scores, f[INTEGRATED].scores) for f in found])
    angle, (low, high) = float(np.median(angles)), interval(angles, np.median)
    lines.append(f"- median cosine of {EXACT} with {INTEGRATED}: {angle:.3f} [{low:.3f}, {high:.3f}]")
    lines.append(
        f"- required: AOPC of {EXACT} ≥ {INTEGRATED}: {_kept(every[EXACT].mean() >= every[INTEGRATED].mean())}"
    )
    lines.append(f"- required: median cosine ≥ {COSINE_BUDGET}: {_kept(angle >= COSINE_BUDGET)}")
    return lines


def notebook(model: nn.Module, tokenizer: Any) -> list[str]:
    """The sentence of captum issue #519 with the notebook's reference: all positions zero."""
    subject = make_subject(model, tokenizer, TEXT, target=TARGET, reference="pad", reference_positions="zero")
    difference = change(subject)
    lines = [f"The sentence of captum issue #519, reference positions zero, f(x) − f(x') = {difference:+.4f}:", ""]
    for name, attribute in attributors(subject).items():
        scores = token_scores(attribute())
        delta = float(scores.sum()) - difference
        top = [subject.tokens[place] for place in ranked(scores, subject.special)[:3]]
        lines.append(f"- {name}: delta {delta:+.1e}, leading: {', '.join(top)}")
        if name == EXACT:
            verdict = _kept(abs(delta) <= DELTA_BUDGET and set(top[:2]) == {"amazing", "great"})
    return [*lines, f"- required: |delta| of {EXACT} ≤ {DELTA_BUDGET:.0e}, amazing and great lead: {verdict}"]


def _kept(holds: bool) -> str:
    return "kept" if holds else "missed"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=200)
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, tokenizer = demo_model()
    model.requires_grad_(False)
    _training, held_out = split_reviews(download_reviews())
    generator = torch.Generator().manual_seed(SEED)
    found = [measure(model, tokenizer, review.text, generator) for review in held_out[: options.reviews]]
    with printed(__file__, options.write) as line:
        line(f"{len(found)} held-out reviews, reference `[PAD]` at the input's positions, target: the predicted class;")
        line(
            f"tokens replaced by `[MASK]` in order of attribution; cosine and Spearman are medians, with {INTEGRATED}\n"
        )
        line("\n".join([*table(found), "", *notebook(model, tokenizer)]))


if __name__ == "__main__":
    main()
