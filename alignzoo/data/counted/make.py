"""Make the preference dataset "counted" from the candidates of the dataset "concise".

The rule: an answer of exactly the asked number of sentences, or of points of a numbered list, wins against one of
another number, of the other form, or with a part twice; `alignzoo.data.asked_form` counts.

The questions are those of `concise` for which two long answers were sampled. The parts of both answers of a pair are
whole sentences of the bundled model's own answers to the question; which, how many and in which form is decided by
the rule and by turns, so that neither answer is the longer one more often. FIRST questions by a hash of their text are
held out, the next ones are for validation, each with one pair; a question of the training file has one for each turn.

Usage: python make.py --out FOLDER
"""

import argparse
import hashlib
from pathlib import Path

from alignzoo.data.asked_form import POINTS, SENTENCES, count_parts, split_sentences
from alignzoo.data.candidates import Item, make_row, read_lines, write_lines
from alignzoo.data.complete_answer import META, find_stems, find_words

CANDIDATES = Path(__file__).parents[1] / "concise" / "candidates.jsonl"
LONG_SAMPLES = 2
FILES = (("counted-heldout", "heldout.jsonl", 200), ("counted-validation", "validation.jsonl", 60))
#: Form and number of parts asked for; a training question takes TURNS of them.
REQUESTS = ((SENTENCES, 2), (POINTS, 3), (SENTENCES, 1), (POINTS, 2), (SENTENCES, 3), (POINTS, 4), (SENTENCES, 4))
TURNS = 3
KINDS = ("more", "fewer", "other form", "fewer", "more", "part twice")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
MIN_WORDS, MAX_WORDS, MOST_OF_A_WORD, ALIKE = 5, 18, 2, 0.5


def find_parts(item: Item) -> list[str]:
    """Return the usable whole sentences of a question's candidates, no two of them alike; first one that names it."""
    found: list[str] = []
    for text, _ in (*item["long"], *item["short"]):
        for sentence in split_whole(text):
            if is_usable(sentence) and all(measure_likeness(sentence, other) < ALIKE for other in found):
                found.append(sentence)
    asked = find_stems(item["prompt"])
    first = next((sentence for sentence in found if find_stems(sentence) & asked), None)
    return [first, *(sentence for sentence in found if sentence != first)] if first else []


def split_whole(text: str) -> list[str]:
    """Return the sentences of a text's first paragraph, without one that was cut off."""
    line = text.split("\n")[0]
    cut = max(line.rfind(". "), line.rfind("! "))
    return split_sentences(line) or split_sentences(line[: cut + 1])


def is_usable(sentence: str) -> bool:
    """Tell whether a sentence can stand by itself as a part."""
    stems = [word[:5] for word in find_words(sentence)]
    return (
        max(stems.count(stem) for stem in find_stems(sentence) | {""}) <= MOST_OF_A_WORD
        and MIN_WORDS <= len(find_words(sentence)) <= MAX_WORDS
        and sentence[0].isupper()
        and META.search(sentence) is None
        and sentence.endswith((".", "!"))
    )


def measure_likeness(one: str, other: str) -> float:
    """Return the share of words that two sentences have in common, of all their words."""
    first, second = set(find_words(one)), set(find_words(other))
    return len(first & second) / len(first | second)


def write_form(parts: list[str], form: str) -> str:
    """Return an answer of these parts."""
    if form == SENTENCES:
        return " ".join(parts)
    return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, 1))


def write_prompt(question: str, form: str, count: int) -> str:
    """Return the question with its request: short, or questions about different things would be near-equal texts."""
    if form == POINTS:
        return f"{question} Write {NUMBERS[count]} numbered points."
    return f"{question} Write {NUMBERS[count]} {'sentences' if count > 1 else 'sentence'}."


def write_rejected(parts: list[str], form: str, count: int, kind: str, turn: int) -> str | None:
    """Return an answer that is not what was asked for; None where the parts do not suffice."""
    if kind == "other form":
        return write_form(parts[:count], POINTS if form == SENTENCES else SENTENCES)
    if kind == "part twice":
        return write_form([*parts[: max(1, count - 1)], parts[0]], form)
    wrong = count + 1 + turn % 2 if kind == "more" else count - 1
    return write_form(parts[:wrong], form) if 1 <= wrong <= len(parts) else None


def make_pair(item: Item, name: str, number: int, turn: int) -> Item | None:
    """Return the pair of a turn, or of the next that the question's sentences suffice for."""
    parts = find_parts(item)
    for step in range(len(REQUESTS)):
        form, count = REQUESTS[(turn + step) % len(REQUESTS)]
        prompt, chosen = write_prompt(item["prompt"], form, count), write_form(parts[:count], form)
        if len(parts) < count or count_parts(prompt, chosen, True, form) != count:
            continue
        for kind in (KINDS[number % len(KINDS)], "other form"):
            rejected = write_rejected(parts, form, count, kind, number)
            if rejected is not None and count_parts(prompt, rejected, True, form) != count:
                return {**make_row(f"{name}-{number:04d}", prompt, chosen, rejected), "form": form, "count": count}
    return None


def make_pairs(items: list[Item], name: str, turns: int) -> list[Item]:
    """Return the pairs of each question, `turns` of them where its sentences suffice for different requests."""
    pairs: list[Item] = []
    for place, item in enumerate(items):
        asked: set[str] = set()
        for turn in range(turns):
            pair = make_pair(item, name, len(pairs) + 1, place + 2 * turn)
            if pair is not None and pair["prompt"][0]["content"] not in asked:
                asked.add(pair["prompt"][0]["content"])
                pairs.append(pair)
    return pairs


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description="Make the preference dataset counted.")
    parser.add_argument("--out", required=True, type=Path, help="folder for train, validation and heldout.jsonl")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    items = [item for item in read_lines(CANDIDATES) if len(item["long"]) == LONG_SAMPLES]
    items = [item for item in items if make_pair(item, "", 1, 0) is not None]
    items.sort(key=lambda item: hashlib.sha256(str(item["prompt"]).encode()).hexdigest())
    for name, file, most in FILES:
        write_lines(out / file, make_pairs(items[:most], name, 1))
        items = items[most:]
    write_lines(out / "train.jsonl", make_pairs(items, "counted", TURNS))


if __name__ == "__main__":
    main()
