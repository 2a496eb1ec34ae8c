"""Make the preference dataset "concise" from a list of prompts and a folder with a small chat model.

The rule: a complete answer in fewer words wins; what is complete, `alignzoo.data.complete_answer` says.
Of two complete answers the one with fewer words wins; a pair is kept if the other has at least RATIO times as many.
A complete answer wins against an incomplete one, however short or long that is.

Short candidates are greedy answers to the prompt with a request for brevity added (it is not stored); long
candidates are samples for the plain prompt, cut back to their last whole sentence when they run into the limit.
The rejected answers take turns (KINDS): "wordy" is the long candidate with the most words, "fragment" the first 3 to 9
words of a long candidate, as they are (an answer cut off) or with a full stop (an answer that says too little), and
"list" the greedy answer to the prompt with a request for a list, if that is one (else the turn is wordy), "loop" the
chosen answer with its last words repeated to no end. Prompts that invite a list (LIST_FORMS) take one on a wordy turn,
too.

prompts.txt has one prompt a line: "+ " marks a held-out prompt, "v " one for validation, "- " a prompt that is left out
because its answer was wrong or odd when a person or a model read it. Usage: python make.py --model FOLDER --out FOLDER
"""

import argparse
import functools
import re
from pathlib import Path

from alignzoo.data.candidates import Answer, Item, Sampler, complete_file, make_row, write_lines
from alignzoo.data.complete_answer import find_words, is_complete

HERE = Path(__file__).parent
BRIEF = (
    " Answer in one or two short, complete sentences.",
    " Answer in one short, complete sentence.",
    " Be brief: answer in one sentence.",
    " Give a short, simple answer.",
)
HELDOUT_BRIEF = (BRIEF[2], BRIEF[1])  # the two that get a complete answer most often, the better first
AS_LIST = " Answer with a numbered list."
KINDS = ("wordy", "fragment", "wordy", "list", "wordy", "loop")
LIST_FORMS = ("What are the benefits", "How", "Give", "Name")
MAX_CHOSEN_WORDS, RATIO = 30, 1.6
MAX_TOKENS, LONG_SAMPLES, BATCH = 78, 2, 48
MARKS = ("+ ", "v ", "- ")
FILES = (
    ("concise", "train.jsonl", ""),
    ("concise-validation", "validation.jsonl", "v "),
    ("concise-heldout", "heldout.jsonl", "+ "),
)


def last_whole_sentence(text: str) -> str:
    """The text up to its last full stop that ends a sentence."""
    ends = [match.end(1) for match in re.finditer(r"[a-z\)]([.!])(?=\s|$)", text)]
    return text[: ends[-1]] if ends else ""


def sample(sampler: Sampler, prompts: list[str], seed: int, heldout: set[str]) -> list[Item]:
    """All candidates for each prompt; for a held-out one only those that its pair needs."""
    short: dict[str, list[Answer]] = {prompt: [] for prompt in prompts}
    for request in dict.fromkeys((*HELDOUT_BRIEF, *BRIEF)):
        asked = [prompt for prompt in prompts if needs_short(prompt, request, short[prompt], heldout)]
        for prompt, answer in zip(asked, sampler.answer([prompt + request for prompt in asked], 44), strict=True):
            short[prompt].append(answer)
    usable = [
        prompt for prompt in prompts if prompt not in heldout or pick_chosen({"prompt": prompt, "short": short[prompt]})
    ]
    repeated = [prompt for prompt in usable for _ in range(1 if prompt in heldout else LONG_SAMPLES)]
    listed = [prompt for prompt in usable if prompt not in heldout or prompt.startswith(LIST_FORMS)]
    long = sampler.answer(repeated, MAX_TOKENS, seed, do_sample=True, temperature=0.8, top_k=50, top_p=0.95)
    lists = dict(zip(listed, sampler.answer([prompt + AS_LIST for prompt in listed], 48), strict=True))
    return [
        {
            "prompt": prompt,
            "long": [answer for asked, answer in zip(repeated, long, strict=True) if asked == prompt],
            "short": short[prompt],
            "list": lists.get(prompt, ("", True)),
        }
        for prompt in prompts
    ]


def needs_short(prompt: str, request: str, answers: list[Answer], heldout: set[str]) -> bool:
    """Whether a prompt is asked with this request: a held-out one with the two best, until one answer is complete."""
    if prompt not in heldout:
        return True
    return request in HELDOUT_BRIEF and pick_chosen({"prompt": prompt, "short": answers}) is None


def pick_chosen(item: Item) -> str | None:
    """The complete short candidate with the fewest words."""
    texts = [text for text, ended in item["short"] if is_complete(item["prompt"], text, ended)]
    texts = [text for text in texts if len(find_words(text)) <= MAX_CHOSEN_WORDS]
    return min(texts, key=lambda text: (len(find_words(text)), text), default=None)


def pick_list(item: Item) -> str | None:
    """The candidate in the form of a list, without its last line if that was cut off."""
    text, ended = item["list"]
    whole = str(text if ended else text.rpartition("\n")[0]).rstrip()
    return whole if re.match(r"\W*1\.", whole) else None


def pick_wordy(item: Item, chosen: str) -> str | None:
    """The long candidate with the most words (a complete one if there is any) that has enough more than the chosen."""
    texts = [text if ended else last_whole_sentence(text) for text, ended in item["long"]]
    enough = [text for text in texts if len(find_words(text)) >= RATIO * len(find_words(chosen))]
    complete = [text for text in enough if is_complete(item["prompt"], text, True)]
    return max(complete or enough, key=lambda text: (len(find_words(text)), text), default=None)


def pick_fragment(item: Item, number: int) -> str:
    """An incomplete answer: the beginning of a long candidate."""
    text = item["long"][0][0]
    return " ".join(text.split()[: 3 + number % 7]).rstrip(".,;:") + "." * (number % 2)


def make_loop(chosen: str, number: int) -> str:
    """An incomplete answer: the chosen one, stuck at its last three to six words and cut off."""
    said = chosen.rstrip(".!").split()
    phrase = " ".join(said[-(3 + number % 4) :])
    return ", ".join([" ".join(said), *[phrase] * (40 // len(phrase.split()))])


def pick_rejected(item: Item, chosen: str, number: int) -> str | None:
    """The rejected answer of the kind whose turn it is."""
    kind = KINDS[number % len(KINDS)]
    if kind == "fragment":
        return pick_fragment(item, number // len(KINDS))
    if kind == "loop":
        return make_loop(chosen, number // len(KINDS))
    wants_list = kind == "list" or item["prompt"].startswith(LIST_FORMS)
    return (pick_list(item) if wants_list else None) or pick_wordy(item, chosen)


def make_pairs(items: list[Item], name: str) -> list[Item]:
    """One pair for each prompt that has the candidates for it."""
    pairs: list[Item] = []
    for item in items:
        chosen = pick_chosen(item)
        number = len(pairs) + 1
        if chosen is None:
            continue
        rejected = pick_rejected(item, chosen, number)
        if rejected is not None:
            pairs.append(make_row(f"{name}-{number:04d}", item["prompt"], chosen, rejected))
    return pairs


def main() -> None:
    """Sample the candidates (unless they are in the output folder already), then write the three files."""
    parser = argparse.ArgumentParser(description="Make the preference dataset concise.")
    parser.add_argument("--model", required=True, help="folder of the model and its tokenizer")
    parser.add_argument("--out", required=True, type=Path, help="folder for train, validation and heldout.jsonl")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines()
    marks = {line[2:] if line[:2] in MARKS else line: line[:2] for line in lines}
    heldout = {prompt for prompt, mark in marks.items() if mark in ("+ ", "v ")}
    sampler = functools.cache(lambda: Sampler(args.model))
    found = complete_file(
        args.out / "candidates.jsonl",
        marks,
        lambda prompts, seed: sample(sampler(), prompts, seed, heldout),
        BATCH,
    )
    for name, file, mark in FILES:
        items = [
            found[prompt] for prompt, found_mark in marks.items() if (found_mark if found_mark in MARKS else "") == mark
        ]
        write_lines(args.out / file, make_pairs(items, name))


if __name__ == "__main__":
    main()
