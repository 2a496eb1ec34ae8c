"""``method=reward``: its loss, what it learns, and that the saved model scores as the run says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.rewards import RewardModel
from conftest import QUICK
from inprocess import SEED, Outcome, run
from omegaconf import DictConfig

LEARNS = (
    "method=reward",
    "model=tiny",
    "dataset.rows=96",
    "method.learning_rate=3e-3",
    "train.num_train_epochs=2",
    SEED,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    """Train on pairs whose chosen answer is mostly the shorter one, and measure on 40 held-out ones."""
    done = run(tmp_path_factory.mktemp("reward") / "run", *LEARNS)
    assert done.code == 0, done.err
    return done


def lines(run: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "answers.jsonl").read_text().splitlines()]


def test_it_learns_which_answer_is_better(trained: Outcome) -> None:
    result = trained.result()
    assert result["after"]["reward_accuracy"] > 0.75
    assert result["intervals"]["reward_accuracy"][0] > 0.5
    assert result["after"]["reward_margin"] > result["before"]["reward_margin"] + 0.5


def test_its_yardstick_is_that_of_reward_models(trained: Outcome) -> None:
    result = trained.result()
    assert result["after"].keys() == result["intervals"].keys() == {"reward_accuracy", "reward_margin"}
    assert result["objective"] == "reward_accuracy"
    assert len(lines(trained)) == 40
    assert "chosen scored higher" in trained.out
    assert "| chosen scored higher |" in (trained.folder / "model" / "README.md").read_text()


def test_the_numbers_are_those_of_the_lines(trained: Outcome) -> None:
    margins = [line["after"]["chosen_score"] - line["after"]["rejected_score"] for line in lines(trained)]
    after = trained.result()["after"]
    assert after["reward_accuracy"] == sum(margin > 0 for margin in margins) / 40
    assert after["reward_margin"] == pytest.approx(sum(margins) / 40)


def held_out(name: str) -> list[dict[str, Any]]:
    import importlib.resources

    file = importlib.resources.files("alignzoo.data").joinpath(f"concise/{name}.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def content(turns: Any) -> str:
    return turns if isinstance(turns, str) else str(turns[-1]["content"])


def test_the_saved_model_scores_as_the_run_says(trained: Outcome) -> None:
    """`reward=model` tokenises by itself: were its texts to end elsewhere than the rows, its scores would differ."""
    scorer = RewardModel(str(trained.folder), batch_size=4)
    rows = {content(row["prompt"]): row for row in held_out("heldout")}
    told = lines(trained)[:12]
    for answer in ("chosen", "rejected"):
        texts = [content(rows[line["prompt"]][answer]) for line in told]
        scores = scorer([line["prompt"] for line in told], texts)
        assert scores == pytest.approx([line["after"][f"{answer}_score"] for line in told], abs=1e-4)


def test_plain_text_and_several_turns_are_scored_as_trained(tmp_path: Path) -> None:
    from alignzoo.evaluate.rewards import wrap_reward

    turns = [{"role": "system", "content": "Be brief."}, *({"role": r, "content": r} for r in ("user", "assistant"))]
    chat = [
        {"prompt": [*turns, {"role": "user", "content": f"Why {n}?"}], "chosen": f"Since {n}.", "rejected": "No."}
        for n in range(8)
    ]
    chat = [{**row, **{k: [{"role": "assistant", "content": row[k]}] for k in ("chosen", "rejected")}} for row in chat]
    text = [{"prompt": f"{n} and", "chosen": f" {n} is {2 * n}", "rejected": " so on"} for n in range(8)]
    for name, rows in (("chat", chat), ("text", text)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ("dataset=local", f"dataset.path={tmp_path / name}.jsonl", "dataset.heldout.fraction=0.4")
        done = run(tmp_path / name, "method=reward", "model=tiny", *data, "method.learning_rate=1e-2")
        assert done.code == 0, done.err
        by_prompt = {content(row["prompt"]): row for row in rows}
        shown = [by_prompt[line["prompt"]] for line in lines(done)]
        score = wrap_reward(RewardModel(str(done.folder / "model")), [])
        scores = score([row["prompt"] for row in shown], [row["chosen"] for row in shown], [[]] * len(shown))
        assert scores == pytest.approx([line["after"]["chosen_score"] for line in lines(done)], abs=1e-4), name


@pytest.mark.parametrize("margins", [None, [0.0, 1.0, 2.5, -1.0]])
def test_its_loss_is_the_papers(
    margins: list[float] | None, compose_config: Callable[..., DictConfig], tmp_path: Path, cache: Path
) -> None:
    """-log sigmoid of the difference less the margin, plus the centring term.

    Each score is read at the last token of an unpadded row.
    """
    import torch
    from torch.nn.functional import logsigmoid

    from alignzoo.config.check import check
    from alignzoo.models import load, reward_model, start_model
    from alignzoo.plugin.method import DataFormat
    from alignzoo.train.losses.rows import make_rows
    from alignzoo.train.trainer import build_trainer
    from alignzoo.train.trl_config import make_trl_config

    cfg = compose_config("method=reward", "model=tiny", "method.center_rewards_coefficient=0.3")
    start = start_model.start_folder(cfg.model)
    tokenizer = load.load_tokenizer(start, cfg.model)
    model = reward_model.load_scorer(start, tokenizer, [tokenizer.eos_token_id], cfg, "fp32")
    rows = make_rows(DataFormat.PREFERENCE, tokenizer)
    rows = rows if margins is None else rows.add_column("margin", margins)
    checked = check(cfg)
    trainer: Any = build_trainer(checked, make_trl_config(checked, tmp_path), model, tokenizer, rows)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(trainer.model.eval(), inputs)

    def score(prompt: list[int], answer: list[int]) -> Any:
        hidden = trainer.model.model(torch.tensor([prompt + answer])).last_hidden_state[0, -1]
        return trainer.model.score(hidden)[0]

    chosen, rejected = (
        torch.stack([score(row["prompt_ids"], row[name]) for row in rows]) for name in ("chosen_ids", "rejected_ids")
    )
    least = torch.tensor(margins or [0.0] * 4)
    expected = -logsigmoid(chosen - rejected - least).mean() + 0.3 * ((chosen + rejected) ** 2).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)


@pytest.mark.parametrize(("words", "asked"), [((), [1.5, 0.5]), (("method.margin=false",), None)])
def test_it_asks_for_the_margins_of_the_data(
    words: tuple[str, ...], asked: list[float] | None, compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    rows = [{"prompt": f"Why {n}?", "chosen": "So.", "rejected": "No.", "score_chosen": 2 - n} for n in range(2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**row, "score_rejected": 0.5}) + "\n" for row in rows))
    data = ("dataset=local", f"dataset.path={tmp_path / 'rows.jsonl'}", "dataset.heldout.fraction=0")
    inputs = prepare_run(check(compose_config("method=reward", "model=tiny", *data, *words)))
    trainer = inputs.build_trainer(inputs.make_trl_config(tmp_path / "run"), inputs.load_model())
    (batch,) = trainer.get_train_dataloader()
    assert ("margin" in batch) == (asked is not None)
    assert asked is None or sorted(batch["margin"].tolist(), reverse=True) == asked


def test_an_adapter_is_merged_so_that_a_reward_takes_it(tmp_path: Path) -> None:
    words = ("peft=lora", "method.learning_rate=1e-2", "train.warmup_steps=0")
    done = run(tmp_path / "run", "method=reward", *QUICK, *words)
    assert done.code == 0, done.err
    assert not (done.folder / "model" / "adapter_config.json").exists()
    told, rows = lines(done), {content(row["prompt"]): row for row in held_out("heldout")}
    scores = RewardModel(str(done.folder))(
        [line["prompt"] for line in told], [content(rows[line["prompt"]]["chosen"]) for line in told]
    )
    assert scores == pytest.approx([line["after"]["chosen_score"] for line in told], abs=1e-4)
    assert told[0]["before"] != told[0]["after"]


def test_a_policy_learns_from_it_and_is_rewarded_by_it(trained: Outcome, tmp_path: Path) -> None:
    words = ("reward=model", f"reward.model.path={trained.folder}", "method.max_completion_length=8")
    done = run(tmp_path / "run", "method=rloo", *QUICK, *words, "train.max_steps=1")
    assert done.code == 0, done.err
    first, *_ = done.metrics()
    assert first["reward"] == pytest.approx(first["rewards/model/mean"])
    assert "reward" in done.result()["after"]


def test_evaluate_measures_it_again(trained: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    from alignzoo.cli import run_command

    assert run_command(["evaluate", str(trained.folder), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["after"] == pytest.approx(trained.result()["after"], abs=1e-4)


def test_what_a_reward_model_cannot_do_is_refused(trained: Outcome, tmp_path: Path) -> None:
    from alignzoo import UserError
    from alignzoo.cli.chat import speaker as chat
    from alignzoo.evaluate.comparison import read_runs
    from alignzoo.models.pretrained import RemoteCode

    with pytest.raises(UserError, match="is a reward model: it gives scores, and no answers"):
        chat.load("it", chat.find(str(trained.folder)), None, RemoteCode(allowed=False))
    with pytest.raises(UserError, match="has a reward model's scores and no completions"):
        read_runs([trained.folder])
    done = run(tmp_path / "run", *QUICK, f"model.path={trained.folder / 'model'}")
    assert done.err.startswith("alignzoo: model=tiny (")
    assert "is a reward model: it gives scores, and no answers" in done.err
    done = run(tmp_path / "run", "method=reward", *QUICK, "judge=rule")
    assert done.err == "alignzoo: judge=rule: method=reward trains a reward model, which generates no text.\n"
    done = run(tmp_path / "run", "method=reward", *QUICK, "method.center_rewards_coefficient=-1")
    assert "must be 0 or above" in done.err


def test_a_sweep_has_it_on_the_leaderboard(tmp_path: Path) -> None:
    import pandas as pd

    done = run(tmp_path / "sweep", "-m", "method=reward", *QUICK, "seed=0,1")
    assert done.code == 0, done.err
    (row,) = pd.read_csv(tmp_path / "sweep" / "leaderboard.csv").to_dict("records")
    assert (row["method"], row["seeds"]) == ("reward", 2)
    assert 0 <= row["reward_accuracy_low"] <= row["reward_accuracy"] <= row["reward_accuracy_high"] <= 1
    assert "RM accuracy (95 %)" in done.out
