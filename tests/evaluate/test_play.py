"""Completions of several turns, as the yardstick measures them: the tokens are those of TRL's trainers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from alignzoo.config.check import check
from alignzoo.evaluate.completions import Completion
from alignzoo.evaluate.kl import estimate_kl
from alignzoo.evaluate.play import Player
from alignzoo.evaluate.rewards import Rewards, wrap_environment, wrap_reward

WORDS = (
    *("experiment=treasure", "strategy.device=cpu", "train.precision=fp32", "method.num_generations=4"),
    *("train.global_batch_size=8", "train.per_device_batch_size=8", "method.max_completion_length=64"),
)


@pytest.fixture
def inputs(cache: Path, compose_config: Callable[..., Any]) -> Any:
    from alignzoo.train.inputs import prepare_run

    return prepare_run(check(compose_config(*WORDS)))


@pytest.fixture
def player(inputs: Any) -> Player:
    return Player(inputs.toolbox, inputs.tokenizer, inputs.eos_ids, 64, 4)


@pytest.fixture
def rows(inputs: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in inputs.rows.select(range(6))]


@pytest.fixture
def model(inputs: Any) -> Any:
    """A model that says over or goes a way, according to what it has read."""
    found = inputs.load_model()
    with torch.no_grad():
        for weight in found.model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight)))
        found.lm_head.weight[:4] = 0  # neither <eos> nor another mark of a turn
    return found.eval()


def test_its_tokens_are_those_of_the_trainer(
    inputs: Any, player: Player, rows: list[dict[str, Any]], model: Any, tmp_path: Path
) -> None:
    """TRL plays on behind the end of a game; up to there nothing differs."""
    trainer = inputs.build_trainer(inputs.make_trl_config(tmp_path), model)
    trainer.generation_config = copy.deepcopy(trainer.generation_config)
    trainer.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None, min_p=None)
    trainer.generation_kwargs = trainer.generation_config.to_dict()
    batch = trainer._generate_and_score_completions([row for row in rows[:2] for _ in range(4)])
    played = player.play(model, rows[:2])
    for place, play in zip((0, 4), played, strict=True):
        count = len(play.sample.ids)
        assert count > 10
        assert batch["prompt_ids"][place][batch["prompt_mask"][place].bool()].tolist() == play.sample.prompt_ids
        assert batch["completion_ids"][place][:count].tolist() == play.sample.ids
        assert batch["tool_mask"][place][:count].bool().tolist() == play.sample.written


def script(monkeypatch: pytest.MonkeyPatch, tokenizer: Any, *turns: str) -> None:
    left = list(turns)

    def generate(model: Any, tokenizer: Any, prompts: Any, eos_ids: Any, limit: int, sampled: Any) -> list[list[int]]:
        ids = tokenizer(left.pop(0))["input_ids"][:limit]
        return [list(ids) for _ in prompts]

    monkeypatch.setattr("alignzoo.evaluate.play.generate", generate)


def test_a_won_game_ends_with_the_winning_move(
    monkeypatch: pytest.MonkeyPatch, player: Player, inputs: Any, rows: list[dict[str, Any]]
) -> None:
    row = {**rows[0], "start": "a1", "treasure": "b2"}
    script(monkeypatch, inputs.tokenizer, "north", "west", "east")
    done, sample = player.play(None, [row])[0]
    assert done == Completion("north\nwest\neast", 3, True, "", 3, True, pytest.approx(0.95))
    assert inputs.tokenizer.decode(sample.ids) == "north tool east <eos> assistant west tool east <eos> assistant east"
    assert [place for place, by in enumerate(sample.written) if by] == [0, 5, 10]
    assert inputs.tokenizer.decode(sample.prompt_ids).endswith(" north <eos> assistant")
    assert "find the treasure" in rows[0]["prompt"][-1]["content"]
    assert rows[0]["prompt"][-1]["content"].endswith("It lies"), "the row itself is left as it was"


def test_a_turn_without_a_call_ends_it_and_an_unknown_call_is_answered_by_an_error(
    monkeypatch: pytest.MonkeyPatch, player: Player, inputs: Any, rows: list[dict[str, Any]]
) -> None:
    row = {**rows[0], "start": "a1", "treasure": "c1"}
    script(monkeypatch, inputs.tokenizer, "found", "east", "<eos>")
    done, sample = player.play(None, [row])[0]
    assert done == Completion("found\neast\n", 2, True, "", 2, False, pytest.approx(0.25))
    assert inputs.tokenizer.decode(sample.ids).startswith("found tool <unk>")


def test_turns_and_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch, inputs: Any, rows: list[dict[str, Any]]) -> None:
    box = inputs.toolbox._replace(turns=3)
    row = {**rows[0], "start": "a1", "treasure": "d4"}
    script(monkeypatch, inputs.tokenizer, *["west"] * 9)
    done, _ = Player(box, inputs.tokenizer, inputs.eos_ids, 64, 4).play(None, [row])[0]
    assert (done.turns, done.text.count("west")) == (3, 4), "one more turn follows the last observation"
    script(monkeypatch, inputs.tokenizer, *["west"] * 9)
    done, sample = Player(box, inputs.tokenizer, inputs.eos_ids, 10, 4).play(None, [row])[0]
    assert len(sample.ids) <= 10
    assert done.text == "west\nwest", "what does not fit is not begun"


def test_the_kl_is_that_of_what_the_model_wrote(inputs: Any, player: Player, rows: Any, model: Any) -> None:
    start = inputs.load_model().eval()
    samples = [play.sample for play in player.play(model, rows, sampled=True)]
    assert samples == [play.sample for play in player.play(model, rows, sampled=True)]
    assert sum(not by for sample in samples for by in sample.written) > 20
    found = estimate_kl(model, start, samples, 4, inputs.tokenizer.pad_token_id)
    for sample, (kl, tokens) in zip(samples, found, strict=True):
        ids = torch.tensor([sample.prompt_ids + sample.ids])
        with torch.no_grad():
            p, q = (m(input_ids=ids).logits[0, len(sample.prompt_ids) - 1 : -1].log_softmax(-1) for m in (model, start))
        each = (p.exp() * (p - q)).sum(-1)
        marks = torch.tensor(sample.written)
        assert (kl, tokens) == (pytest.approx(float(each[marks].sum()), abs=1e-3), int(marks.sum()))


def test_rewards_read_the_last_turn_and_environments_give_their_own() -> None:
    from datasets import Dataset

    class Echo:
        name = "echo"

        def __call__(self, prompts: Any, completions: list[str], **columns: Any) -> list[float]:
            assert "environments" not in columns
            return [float(len(text)) for text in completions]

    rewards = Rewards([wrap_reward(Echo(), [1]), wrap_environment("game")], [1.0, 10.0], [1])  # type: ignore[arg-type]
    prompt = json.dumps([{"role": "user", "content": "a"}])
    rows = Dataset.from_list([{"prompt": prompt, "extra": "{}", "template_inputs": "{}"}])
    done = Completion("north\ndig", 2, True, "abc", 2, True, 0.5)
    assert rewards.score(rows, [done]) == [3 + 5]


def test_in_training_a_tools_answer_is_not_the_completions() -> None:
    """Where the room ends behind a tool's answer, the model has said nothing; and its EOS before does not end it."""
    seen: list[Any] = []

    class Notes:
        name = "notes"

        def __call__(self, prompts: Any, completions: list[str], **columns: Any) -> list[float]:
            seen.append((completions, columns["ended"]))
            return [0.0] * len(completions)

    call = {"role": "assistant", "content": "", "tool_calls": []}
    answer = {"role": "tool", "name": "calculator", "content": "42"}
    last = {"role": "assistant", "content": "It is 42"}
    turns = [[call, answer], [call, answer, last], [last]]
    ids = [[5, 1, 7, 7], [5, 1, 7, 6, 1], [5, 1, 0, 0]]
    wrap_reward(Notes(), [1])([[{"role": "user", "content": "?"}]] * 3, turns, ids)  # type: ignore[arg-type]
    assert seen == [(["", "It is 42", "It is 42"], [False, True, True])]


def test_a_reward_of_an_environment_that_is_not_a_number_is_refused() -> None:
    from alignzoo import UserError

    broken = OmegaConf.create({"reward": float("nan")})
    with pytest.raises(UserError, match=r"^environment=game: its reward is nan; it must be a finite number\.$"):
        wrap_environment("game")([], [], [], environments=[broken])
