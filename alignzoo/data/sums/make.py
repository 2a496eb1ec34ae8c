"""Make the word problems of the dataset `sums`, each with its solution, from six patterns and numbers by chance.

Usage: python make.py --out FOLDER
"""

import argparse
import random
from pathlib import Path

from alignzoo.data.candidates import write_lines

PEOPLE = ["Ada", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus", "Hana"]
THINGS = ["apples", "stamps", "marbles", "books", "shells", "cards"]
#: The problem, and its solution, of the numbers a, b (12 to 99) and c (2 to 9), their product, and two people.
PATTERNS = (
    ("{n} has {a} {t} and buys {c} bags with {b} {t} in each. How many {t} does {n} have now?", "{a} + {b} * {c}"),
    ("{n} has {a} {t}, {m} has {c} times as many. How many {t} do they have together?", "{a} * ({c} + 1)"),
    (
        "{n} packs {ac} {t} into {c} boxes of equal size, and puts {b} more into each box. How many {t} are in a box?",
        "{ac} / {c} + {b}",
    ),
    ("A box holds {a} {t}. {n} fills {b} boxes and has {c} {t} left over. How many {t} are there?", "{a} * {b} + {c}"),
    ("{n} has {ab} {t}, gives {a} to {m} and loses {c}. How many {t} does {n} still have?", "{ab} - {a} - {c}"),
    (
        "{n} collects {a} {t} a week for {b} weeks, then shares them equally among {c} friends, as far as they go. How "
        "many {t} does each friend get?",
        "{a} * {b} // {c}",
    ),
)
TRAIN, HELDOUT = 500, 100
SEED = 19


def make_problem(chance: random.Random) -> dict[str, str]:
    """Return one row: ``prompt``, ``answer`` and the sum that leads to it."""
    first, second = chance.sample(PEOPLE, 2)
    a, b, c = chance.randint(12, 99), chance.randint(12, 99), chance.randint(2, 9)
    words = {"n": first, "m": second, "t": chance.choice(THINGS), "a": a, "b": b, "c": c, "ab": a * b, "ac": a * c}
    problem, solution = (text.format(**words) for text in chance.choice(PATTERNS))
    return {"prompt": problem, "answer": str(int(eval(solution))), "sum": solution}  # of PATTERNS alone


def main() -> None:
    """Write the files; no problem stands in both, also under other numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    chance, rows = random.Random(SEED), dict[str, dict[str, str]]()
    while len(rows) < TRAIN + HELDOUT:
        row = make_problem(chance)
        rows[row["prompt"]] = row
    found = list(rows.values())
    write_lines(out / "train.jsonl", found[:TRAIN])
    write_lines(out / "heldout.jsonl", found[TRAIN:])


if __name__ == "__main__":
    main()
