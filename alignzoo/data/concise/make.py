"""Make the preference dataset "concise" from a list of prompts and a folder with a small chat model.

The rule: a complete answer in fewer words wins. An answer is complete if it
* ended by itself (the model wrote its end-of-turn token) or was cut back to its last whole sentence,
* ends in sentence punctuation and has at least MIN_WORDS words,
* shares a content word with the prompt,
* is plain prose: no list, no heading, no refusal, no talk about the answer itself, and
* does not repeat itself: at least MIN_DISTINCT of its word trigrams are distinct.
Of two complete answers the one with fewer words wins; a pair is kept if the other has at least RATIO times as many.
A complete answer wins against an incomplete one, however short or long that is.

Short candidates are greedy answers to the prompt with a request for brevity added (it is not stored); long
candidates are samples for the plain prompt, cut back to their last whole sentence when they run into the limit.
The rejected answers take turns (KINDS): "wordy" is the long candidate with the most words, "fragment" the first 3 to 9
words of a long candidate, as they are (an answer cut off) or with a full stop (an answer that says too little), and
"list" the greedy answer to the prompt with a request for a list, if that is one (else the turn is wordy), "loop" the
chosen answer with its last words repeated to no end. Prompts that invite a list (LIST_FORMS) take one on a wordy turn,
too.

prompts.txt has one prompt a line: "+ " marks a held-out prompt, "- " a prompt that is left out because its answer
was wrong or odd when a person or a model read it. Usage: python make.py --model FOLDER --out FOLDER
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
BRIEF = (
    " Answer in one or two short, complete sentences.",
    " Answer in one short, complete sentence.",
    " Be brief: answer in one sentence.",
    " Give a short, simple answer.",
)
AS_LIST = " Answer with a numbered list."
KINDS = ("wordy", "fragment", "wordy", "list", "wordy", "loop")
LIST_FORMS = ("What are the benefits", "How", "Give", "Name")
MIN_WORDS, MAX_CHOSEN_WORDS, MIN_DISTINCT, RATIO = 10, 30, 0.9, 1.6
MAX_TOKENS, LONG_SAMPLES, BATCH, SEED = 78, 2, 96, 0
STOP_WORDS = set(
    re.findall(
        r"[a-z]+",
        "a about an and answer are at be benefits between by can child describe difference do does each explain "
        "for from get give happens how i important in is it its make my name of on one or our someone that the "
        "they three tip to use used we what when why with you your ",
    )
)
META = re.compile(
    r"[:\n*#<>{}\"“|]|^\W*\d|\b(?:sentences?|answers?|as an ai|ai assistant|sorry|i cannot|i can't|i'm|i am|my|sure|"
    r"here are|here's|to be (?:concise|honest)|this (?:is|question|phrase)|prompt)\b",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z0-9'-]+", text.lower())


def stems(text: str) -> set[str]:
    """The first five letters of each content word: enough to match "mirror" with "mirrors"."""
    return {word[:5] for word in words(text) if word not in STOP_WORDS}


def distinct(text: str) -> float:
    """The share of word trigrams that are different from each other."""
    found = words(text)
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    return len(set(trigrams)) / max(1, len(trigrams))


def is_complete(prompt: str, text: str, ended: bool) -> bool:
    """Whether an answer is complete by the rule in the module's docstring."""
    return (
        ended
        and text.endswith((".", "!"))
        and len(words(text)) >= MIN_WORDS
        and bool(stems(prompt) & stems(text))
        and META.search(text) is None
        and distinct(text) >= MIN_DISTINCT
    )


def last_whole_sentence(text: str) -> str:
    """The text up to its last full stop that ends a sentence."""
    ends = [match.end(1) for match in re.finditer(r"[a-z\)]([.!])(?=\s|$)", text)]
    return text[: ends[-1]] if ends else ""


def generate(model: Any, tokenizer: Any, prompts: list[str], limit: int, **options: Any) -> list[tuple[str, bool]]:
    """One answer to each prompt, with whether it ended by itself."""
    answers: list[tuple[str, bool]] = []
    for start in range(0, len(prompts), BATCH):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + BATCH]]
        batch = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
        )
        torch.manual_seed(SEED + start)
        with torch.inference_mode():
            output = model.generate(**batch, max_new_tokens=limit, **options)
        for tokens in output[:, batch["input_ids"].shape[1] :]:
            ended = bool((tokens == tokenizer.eos_token_id).any())
            answers.append((tokenizer.decode(tokens, skip_special_tokens=True).strip(), ended))
        print(f"  {len(answers)}/{len(prompts)}", flush=True)
    return answers


def sample(folder: str, prompts: list[str]) -> list[dict[str, Any]]:
    """All candidates for all prompts."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    repeated = [prompt for prompt in prompts for _ in range(LONG_SAMPLES)]
    long = generate(model, tokenizer, repeated, MAX_TOKENS, do_sample=True, temperature=0.8, top_k=50, top_p=0.95)
    asked = [prompt + request for prompt in prompts for request in BRIEF]
    short = generate(model, tokenizer, asked, 44, do_sample=False)
    lists = generate(model, tokenizer, [prompt + AS_LIST for prompt in prompts], 48, do_sample=False)
    return [
        {
            "prompt": prompt,
            "long": long[LONG_SAMPLES * i : LONG_SAMPLES * (i + 1)],
            "short": short[len(BRIEF) * i : len(BRIEF) * (i + 1)],
            "list": lists[i],
        }
        for i, prompt in enumerate(prompts)
    ]


def pick_chosen(item: dict[str, Any]) -> str | None:
    """The complete short candidate with the fewest words."""
    texts = [text for text, ended in item["short"] if is_complete(item["prompt"], text, ended)]
    texts = [text for text in texts if len(words(text)) <= MAX_CHOSEN_WORDS]
    return min(texts, key=lambda text: (len(words(text)), text), default=None)


def pick_list(item: dict[str, Any]) -> str | None:
    """The candidate in the form of a list, without its last line if that was cut off."""
    text, ended = item["list"]
    whole = str(text if ended else text.rpartition("\n")[0]).rstrip()
    return whole if re.match(r"\W*1\.", whole) else None


def pick_wordy(item: dict[str, Any], chosen: str) -> str | None:
    """The long candidate with the most words (a complete one if there is any) that has enough more than the chosen."""
    texts = [text if ended else last_whole_sentence(text) for text, ended in item["long"]]
    enough = [text for text in texts if len(words(text)) >= RATIO * len(words(chosen))]
    complete = [text for text in enough if is_complete(item["prompt"], text, True)]
    return max(complete or enough, key=lambda text: (len(words(text)), text), default=None)


def pick_fragment(item: dict[str, Any], number: int) -> str:
    """An incomplete answer: the beginning of a long candidate."""
    text = item["long"][0][0]
    return " ".join(text.split()[: 3 + number % 7]).rstrip(".,;:") + "." * (number % 2)


def make_loop(chosen: str, number: int) -> str:
    """An incomplete answer: the chosen one, stuck at its last three to six words and cut off."""
    said = chosen.rstrip(".!").split()
    phrase = " ".join(said[-(3 + number % 4) :])
    return ", ".join([" ".join(said), *[phrase] * (40 // len(phrase.split()))])


def pick_rejected(item: dict[str, Any], chosen: str, number: int) -> str | None:
    """The rejected answer of the kind whose turn it is."""
    kind = KINDS[number % len(KINDS)]
    if kind == "fragment":
        return pick_fragment(item, number // len(KINDS))
    if kind == "loop":
        return make_loop(chosen, number // len(KINDS))
    wants_list = kind == "list" or item["prompt"].startswith(LIST_FORMS)
    return (pick_list(item) if wants_list else None) or pick_wordy(item, chosen)


def make_pairs(items: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """One pair for each prompt that has the candidates for it."""
    pairs: list[dict[str, Any]] = []
    for item in items:
        chosen = pick_chosen(item)
        number = len(pairs) + 1
        if chosen is None:
            continue
        rejected = pick_rejected(item, chosen, number)
        if rejected is None:
            continue
        texts = {"prompt": item["prompt"], "chosen": chosen, "rejected": rejected}
        row: dict[str, Any] = {"id": f"{name}-{number:04d}"}
        for key, text in texts.items():
            row[key] = [{"role": "user" if key == "prompt" else "assistant", "content": text}]
        pairs.append(row)
    return pairs


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} lines")


def main() -> None:
    """Sample the candidates (unless they are in the output folder already), then write both files."""
    parser = argparse.ArgumentParser(description="Make the preference dataset concise.")
    parser.add_argument("--model", required=True, help="folder of the model and its tokenizer")
    parser.add_argument("--out", required=True, type=Path, help="folder for train.jsonl and heldout.jsonl")
    args = parser.parse_args()
    lines = (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines()
    marks = {line.removeprefix("+ ").removeprefix("- "): line[:2] for line in lines}
    cache = args.out / "candidates.jsonl"
    if not cache.exists():
        args.out.mkdir(parents=True, exist_ok=True)
        write_lines(cache, sample(args.model, sorted(marks)))
    found = {item["prompt"]: item for item in map(json.loads, cache.read_text(encoding="utf-8").splitlines())}
    train = [found[prompt] for prompt, mark in marks.items() if mark not in ("+ ", "- ")]
    heldout = [found[prompt] for prompt, mark in marks.items() if mark == "+ "]
    write_lines(args.out / "train.jsonl", make_pairs(train, "concise"))
    write_lines(args.out / "heldout.jsonl", make_pairs(heldout, "concise-heldout"))


if __name__ == "__main__":
    main()
