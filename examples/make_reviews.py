"""Writes short made-up reviews with a label each, for 10-classify.yaml: one text and its label a line. Seeded."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

WORDS = {
    "positive": ["great", "lovely", "superb", "charming", "brilliant", "delightful", "fine", "warm"],
    "negative": ["awful", "dull", "poor", "boring", "dreadful", "weak", "cold", "grim"],
}
PLAIN = ["the", "film", "was", "a", "story", "of", "people", "in", "town", "with", "music", "and", "some", "light", "over", "long", "days"]


def review(draw: random.Random) -> dict[str, str]:
    """Two words of its label among plain ones."""
    label = draw.choice(sorted(WORDS))
    words = draw.choices(PLAIN, k=draw.randrange(6, 26))
    for word in draw.sample(WORDS[label], k=2):
        words.insert(draw.randrange(len(words)), word)
    return {"text": " ".join(words).capitalize() + ".", "label": label}


def main() -> None:
    """The first argument is the file, the second the number of reviews."""
    path, draw = Path(sys.argv[1]), random.Random(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(review(draw)) + "\n" for _ in range(int(sys.argv[2]))))


if __name__ == "__main__":
    main()
