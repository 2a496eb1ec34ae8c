"""Make the islands of the text game `treasure`: one for each pair of fields that are two to four steps apart.

Usage: python make.py --out FOLDER
"""

import argparse
import itertools
import random
from pathlib import Path

from alignzoo.data.candidates import write_lines

FIELDS = [f"{column}{row}" for column in "abcd" for row in "1234"]
SYLLABLES = ["ba", "be", "bo", "da", "de", "do", "ka", "ke", "ko", "la", "le", "lo", "ma", "me", "mo", "na"]
NEAREST, FARTHEST = 2, 4  #: steps
HELDOUT = 40
SEED = 19


def make_rows() -> list[dict[str, str]]:
    """Return the islands in an order by chance, each under a name of its own."""
    pairs = (pair for pair in itertools.permutations(FIELDS, 2) if NEAREST <= count_steps(*pair) <= FARTHEST)
    rows = [{"start": start, "treasure": goal} for start, goal in pairs]
    random.Random(SEED).shuffle(rows)
    names = ["".join(pair).capitalize() for pair in itertools.permutations(SYLLABLES, 2)]
    return [{"prompt": write_prompt(name), **row} for name, row in zip(names, rows, strict=False)]


def count_steps(start: str, goal: str) -> int:
    """Return how many steps the way takes."""
    return sum(abs(ord(one) - ord(other)) for one, other in zip(start, goal, strict=True))


def write_prompt(name: str) -> str:
    """Return what the environment adds the first direction to."""
    return f"Island {name}: find the treasure. It lies"


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    rows = make_rows()
    write_lines(out / "heldout.jsonl", rows[:HELDOUT])
    write_lines(out / "train.jsonl", rows[HELDOUT:])


if __name__ == "__main__":
    main()
