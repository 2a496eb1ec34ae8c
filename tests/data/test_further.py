"""Margins and third answers: read where the data has them, carried to the trainers of methods that train on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo import DataFormat, UserError
from alignzoo.data.convert import convert, pair_completions
from alignzoo.data.prepare import Prepared, prepare
from alignzoo.data.recognise import recognise
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_tokenizer

Row = dict[str, Any]

PAIR = {"prompt": "Why?", "chosen": "Since.", "rejected": "No."}
TURNS = [{"from": "human", "value": "Why?"}]
HH = {"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}
ANSWERS = {"chosen": {"from": "gpt", "value": "So."}, "rejected": {"from": "gpt", "value": "No."}}

#: Layout -> rows, and their margins.
MARGINS: dict[str, tuple[Row, float | None]] = {
    "pairs": ({**PAIR, "margin": 2}, 2.0),
    "pairs-zero": ({**PAIR, "margin": 0}, 0.0),
    "pairs-text": ({**PAIR, "margin": "1.5"}, 1.5),
    "pairs-null": ({**PAIR, "margin": None}, None),
    "pairs-none": (PAIR, None),
    "ultrafeedback-h4": ({**PAIR, "score_chosen": 8.5, "score_rejected": 7.0}, 1.5),
    "ultrafeedback-argilla": ({**PAIR, "chosen-rating": 5.0, "rejected-rating": 3.0}, 2.0),
    "scores-of-pairs": ({**PAIR, "chosen_score": 1.0, "rejected_score": 3.0}, -2.0),
    "one-score-null": ({**PAIR, "chosen_score": 1.0, "rejected_score": None}, None),
    "own-before-scores": ({**PAIR, "margin": 3.0, "score_chosen": 8.5, "score_rejected": 7.0}, 3.0),
    "transcripts": ({**HH, "margin": 0.5}, 0.5),
    "sharegpt-pairs": ({"conversations": TURNS, **ANSWERS, "margin": 0.5}, 0.5),
    "alpaca-pairs": ({"instruction": "Why?", "chosen": "So.", "rejected": "No.", "margin": 0.5}, 0.5),
    "scores": ({"prompt": "Why?", "responses": ["a", "b", "c"], "scores": [2, 9, 4]}, 7.0),
    "ranks": ({"prompt": "Why?", "responses": ["a", "b"], "ranks": [2, 1]}, None),
    "strengths": ({"prompt": "Why?", "response_1": "a", "response_2": "b", "preference_strength": -3}, 3.0),
}


@pytest.mark.parametrize("name", MARGINS)
def test_margins_are_read(name: str, compose_config: Callable[..., DictConfig]) -> None:
    row, margin = MARGINS[name]
    layout = recognise([row], compose_config("dataset=local", "dataset.chat=true").dataset, "it")
    (shaped,) = layout.rows(row)
    assert shaped.get("margin") == margin


@pytest.mark.parametrize("margin", ["large", float("nan"), float("inf"), True, [1]])
def test_a_margin_that_is_not_a_number_is_a_bad_row(margin: Any, compose_config: Callable[..., DictConfig]) -> None:
    row = {**PAIR, "margin": margin}
    with pytest.raises(ValueError, match=r"margin is .*; it must be a number"):
        list(recognise([row], compose_config("dataset=local").dataset, "it").rows(row))


@pytest.fixture
def prepared(start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare rows with the tiny model's tokenizer, none held out."""
    cfg = compose_config("model=tiny")
    tokeniser = Tokeniser(load_tokenizer(start, cfg.model), [])

    def run(rows: list[Row], *words: str) -> Prepared:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ("dataset=local", f"dataset.path={tmp_path / 'rows.jsonl'}", "dataset.heldout.fraction=0")
        return prepare(compose_config("model=tiny", *data, *words), tokeniser)

    return run


def make_rows(data: Prepared, **further: bool) -> list[Row]:
    return list(convert(data.train, data.kind, DataFormat.PREFERENCE, 4, 0, further))


def test_they_reach_rows_of_methods_that_ask_for_them(prepared: Callable[..., Prepared], start: Path) -> None:
    rows = [{**PAIR, "margin": n / 2, "gold": f"Gold {n}."} for n in range(3)]
    data = prepared(rows, "dataset.chat=true")
    assert set(make_rows(data)[0]) == {"id", "prompt_ids", "chosen_ids", "rejected_ids"}
    found = make_rows(data, margin=False, gold_ids=True)
    assert [row["margin"] for row in found] == [0.0, 0.5, 1.0]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Gold 2."}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip()
    assert tokenizer.decode(found[2]["prompt_ids"] + found[2]["gold_ids"]) == whole
    assert str(data.layout) == "pairs (preference): chosen, gold, margin, prompt, rejected"
    assert json.loads(data.train[1]["extra"]) == {"gold": "Gold 1.", "margin": 0.5}, "rewards read them too"


def test_a_long_third_answer_counts(prepared: Callable[..., Prepared]) -> None:
    rows = [{**PAIR, "gold": "Gold. " * (1 + 100 * n)} for n in range(2)]
    data = prepared(rows, "train.max_length=60")
    assert list(data.manifest["decision"]) == ["train", "dropped"]
    assert data.manifest["reason"][1].startswith("longer than train.max_length=60")


def test_the_third_answer_is_part_of_the_rows_hash(prepared: Callable[..., Prepared]) -> None:
    rows = [{**PAIR, "gold": "Gold."}, {**PAIR, "gold": "Silver."}, PAIR, PAIR, {**PAIR, "gold": "Gold."}]
    hashes = list(prepared(rows).manifest["tokens"])
    assert [hashes.index(one) for one in hashes] == [0, 1, 2, 2, 0]
    assert hashes[2] == prepared([PAIR]).manifest["tokens"][0], "whether other rows have one makes no difference"


@pytest.mark.parametrize("needed", [True, False])
def test_rows_that_lack_one_are_named(prepared: Callable[..., Prepared], needed: bool) -> None:
    some = prepared([{**PAIR, "margin": 1.0, "id": "a"}, {**PAIR, "id": "b"}])
    with pytest.raises(UserError, match=r"1 of 2 pairs have none, as b\.\nFill in `margin` in all rows"):
        make_rows(some, margin=needed)
    none = prepared([{**PAIR, "id": "a"}, {**PAIR, "id": "b"}])
    if not needed:
        assert "margin" not in make_rows(none, margin=needed)[0]
        return
    with pytest.raises(UserError, match="the method trains on a third completion, gold: 2 of 2 pairs have none"):
        make_rows(none, gold_ids=needed)


def test_a_column_that_pairs_cannot_have_is_named(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(UserError, match="further_columns names 'margn'; pairs can have margin, gold_ids"):
        make_rows(prepared([PAIR]), margn=False)


def test_paired_answers_have_the_difference_of_their_scores(prepared: Callable[..., Prepared]) -> None:
    rows = [{"prompt": "Why?", "completion": f"Answer {n}.", "score": score} for n, score in enumerate([2.0, 5.5, 3.0])]
    data = prepared(rows)
    assert [row["margin"] for row in make_rows(data, margin=True)] == [3.5]
    assert pair_completions(data.train, data.kind)["margin"][:] == [3.5]


TPO = '''
from alignzoo import DataFormat, Method, hookimpl


class TPO(Method):
    """TPO (Saeidi et al., 2024): a third answer is imitated while the pair is compared."""

    name = "fake_tpo"
    data = DataFormat.PREFERENCE
    config = "trl.experimental.tpo:TPOConfig"
    trainer = "trl.experimental.tpo:TPOTrainer"

    @classmethod
    def further_columns(cls, cfg):
        return {"gold_ids": True}

    def trainer_arguments(self, parts):
        renamed = parts.train.rename_column("gold_ids", "reference_ids")
        return super().trainer_arguments(parts) | {"train_dataset": renamed}


@hookimpl
def alignzoo_methods():
    return [TPO]


@hookimpl
def alignzoo_config_packages():
    return ["fake_tpo.conf"]
'''


def test_a_method_trains_on_the_third_answer(
    fake_package: Callable[..., None], compose_config: Callable[..., DictConfig], tmp_path: Path, start: Path
) -> None:
    """In TRL's trainer of TPO: its loss has the mean negative log-likelihood of the third answers' tokens."""
    import torch

    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    yaml = "name: fake_tpo\nlearning_rates: {full: 1.0e-6, small: 1.0e-6, adapter: 1.0e-5}\n"
    yaml += "learning_rate: ${method.learning_rates.${peft.rate}}\n"
    fake_package("fake_tpo", TPO, {"method/fake_tpo.yaml": yaml})
    rows = [{**PAIR, "prompt": f"Why {n}?", "gold": f"Gold {n}."} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = (
        "dataset=local",
        f"dataset.path={tmp_path / 'rows.jsonl'}",
        "dataset.chat=true",
        "dataset.heldout.fraction=0",
    )
    inputs = prepare_run(check(compose_config("method=fake_tpo", "model=tiny", *data, "train.global_batch_size=4")))
    trainer = inputs.build_trainer(inputs.make_trl_config(tmp_path / "run"), inputs.load_model())
    batch = next(iter(trainer.get_train_dataloader()))
    third = len(batch["input_ids"]) // 3
    masks = batch["attention_mask"][2 * third :].bool()
    golds = [ids[mask].tolist() for ids, mask in zip(batch["input_ids"][2 * third :], masks, strict=True)]
    prompts = {tuple(row["prompt_ids"] + row["gold_ids"]): len(row["prompt_ids"]) for row in inputs.rows}
    assert {tuple(ids) for ids in golds} <= prompts.keys()
    losses = []
    for trainer.tpo_alpha in (1.0, 3.0):
        losses.append(trainer.compute_loss(trainer.model.eval(), batch).detach())
    found = []
    for ids in golds:
        scores = trainer.model(torch.tensor([ids])).logits[0].log_softmax(-1).detach()
        found += [-scores[place - 1, ids[place]] for place in range(prompts[tuple(ids)], len(ids))]
    assert float(losses[1] - losses[0]) / 2 == pytest.approx(float(torch.stack(found).mean()), abs=1e-5)
