"""Which texts count as near-equal: equal words, or nearly the same pairs of words; and in linear time."""

from __future__ import annotations

import random

import pytest

from alignzoo.data import near_equal
from alignzoo.data.near_equal import COMMON, JACCARD, cluster_texts, sign

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lm", "nt", "rs", "st", "x")]
LONG = "Write a short letter to my landlord in which I ask him to repair the heating before winter"

SAME = {
    "case": ("What is Salt?", "what is salt?"),
    "punctuation": ("What is salt?", "What is salt"),
    "blanks": ("What is\n salt?", " What  is salt?"),
    "kind of characters": ("What is \uff53\uff41\uff4c\uff54?", "What is salt?"),
    "composed accents": ("Où est le café?", "Ou\u0300 est le cafe\u0301?"),
    "quotation marks": ("What does “salt” mean?", 'What does "salt" mean?'),
    "sharp s": ("Wo ist die STRASSE?", "Wo ist die Straße?"),
    "an added word": (LONG, f"Please {LONG}"),
    "another word": (LONG, LONG.replace("short", "polite")),
    "no blanks": ("日本の首都はどこですか教えてください", "日本の首都はどこですか教えてくださいね"),
}
APART = {
    "another question": ("What is salt?", "What is sugar?"),
    "another number": ("What is 3 + 4?", "What is 3 + 5?"),
    "half of it": (LONG, LONG[: len(LONG) // 2]),
    "without words": ("???", "!!!"),
    "other order": ("Is the dog bigger than the cat?", "Than the cat, the bigger is dog?"),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_near_equal_texts_are_one_cluster(pair: tuple[str, str]) -> None:
    first, second, other = cluster_texts([*pair, "Who wrote Faust?"])
    assert first == second != other


@pytest.mark.parametrize("pair", APART.values(), ids=APART)
def test_other_texts_are_not(pair: tuple[str, str]) -> None:
    first, second = cluster_texts(pair)
    assert first != second


def make_texts(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=24)) for _ in range(count)]


def test_changed_texts_are_found_among_many() -> None:
    """One word of 24 changed: a similarity of 0.85, of which 99 % are compared; chance alone joins nothing."""
    texts = make_texts(400)
    changed = [text.replace(text.split()[9], "salt", 1) for text in texts]
    numbers = cluster_texts([*texts, *changed])
    found = sum(numbers[place] == numbers[400 + place] for place in range(400))
    assert found > 0.96 * 400
    assert len(set(numbers)) == 800 - found


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts = make_texts(60)
    texts += [text.replace(text.split()[3], "salt", 1) for text in texts]
    order = list(range(120))
    random.Random(1).shuffle(order)
    first, second = cluster_texts(texts), cluster_texts([texts[place] for place in order])
    together = {(a, b) for a in range(120) for b in range(120) if first[a] == first[b]}
    where = {place: number for number, place in enumerate(order)}
    assert together == {(a, b) for a in range(120) for b in range(120) if second[where[a]] == second[where[b]]}


def test_a_template_joins_nothing() -> None:
    """Many prompts with the same words around one of their own are different prompts."""
    same = " ".join(make_texts(1)[0].split()[:20])
    numbers = cluster_texts([f"{same} word{number}" for number in range(10 * COMMON)])
    assert len(set(numbers)) > 9 * COMMON
    few = cluster_texts([f"{same} word{number}" for number in range(3)])
    assert len(set(few)) == 1


@pytest.mark.parametrize("words", [len(WORDS), 15], ids=["many words", "few words"])
def test_few_texts_are_compared(words: int) -> None:
    """What is compared grows with the number of texts, and not with its square; also where chance joins many bands."""
    asked: list[int] = []
    chance = random.Random(0)
    texts = [" ".join(chance.choices(WORDS[:words], k=24)) for _ in range(10_000)]
    keys, bands = sign(texts)

    def read(place: int) -> str:
        asked.append(place)
        return texts[place]

    near_equal.cluster(keys, bands, read)
    assert len(asked) < 500


def test_no_text_is_no_cluster() -> None:
    assert cluster_texts([]) == []
    assert 0 < JACCARD < 1


def test_a_file_of_one_template_is_not_one_cluster() -> None:
    """Few texts, too: most words of all of them are the same, and that says nothing of what is asked."""
    shape = "You have a tool that tells the weather of a town. The user asks for the weather in {}. Call it once."
    towns = ["Rome", "Oslo", "Lima", "Bonn", "Cork", "Nice", "Graz", "Bern", "Kiel", "York"]
    assert len(set(cluster_texts([shape.format(town) for town in towns]))) == len(towns)


def test_a_few_near_equal_texts_are_one_cluster_however_few_there_are() -> None:
    text = "Why is the sea salt, and why are rivers and lakes not salt at all?"
    found = cluster_texts([text, text.lower(), text.replace("at all", ""), "Name three towns."])
    assert len(set(found[:3])) == 1
    assert found[3] != found[0]
