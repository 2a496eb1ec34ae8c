"""The first-party judges: which answer wins, and what becomes of an endpoint that fails."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.judges import PairwiseLM, Person, RewardModel, Rule, read_verdict

from alignzoo.evaluate.verdicts import JudgeStopped, judge_pairs
from alignzoo.models.tiny import make_tiny
from alignzoo.system.errors import UserError

KEY = "sk-very-secret-1234567890"
WHOLE = "One two three four five six seven eight."
LONGER = "One two three four five six seven eight nine."


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path


# Rule


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (WHOLE, LONGER, 1.0),
        (LONGER, WHOLE, 0.0),
        (WHOLE, WHOLE.upper(), 0.5),
        (LONGER, "", 1.0),
        (LONGER, WHOLE[:-1], 1.0),
        (WHOLE[:-1], LONGER, 0.0),
        ("Too short.", LONGER, 0.0),
        ("Too short.", "", 0.5),
        ("on and on and on and on and on.", LONGER, 0.0),
        (f'"{WHOLE}"', LONGER, 1.0),
    ],
)
def test_rule(a: str, b: str, verdict: float) -> None:
    assert Rule()(["p"], [a], [b]) == [verdict]


def test_the_rules_settings() -> None:
    assert Rule(least=2)(["p"], ["Too short."], [LONGER]) == [1.0]
    assert Rule(least=5, distinct=0.2)(["p"], ["on and on and on and on."], [LONGER]) == [1.0]
    with pytest.raises(UserError, match=r"judge\.distinct=2 must be between 0 and 1"):
        Rule(distinct=2)


# Reward model


@pytest.fixture
def scorer(tmp_path: Path) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    make_tiny(tmp_path / "tiny")
    config = LlamaConfig.from_pretrained(tmp_path / "tiny")
    config.num_labels, config.initializer_range = 1, 0.3
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "scorer")
    AutoTokenizer.from_pretrained(tmp_path / "tiny").save_pretrained(tmp_path / "scorer")
    return tmp_path / "scorer"


def test_the_reward_models_higher_score_wins(scorer: Path) -> None:
    judge = RewardModel(str(scorer), batch_size=2)
    prompts, a, b = ["Why?"] * 3, ["Rain.", "Because.", "Same"], ["The sun shines.", "No.", "Same"]
    scores = list(zip(judge.score(prompts, a), judge.score(prompts, b), strict=True))
    assert judge(prompts, a, b) == [float(x > y) for x, y in scores[:2]] + [0.5]
    assert judge(prompts, b, a) == [float(x < y) for x, y in scores[:2]] + [0.5]


def test_other_weights_in_a_folder_are_another_judge(scorer: Path) -> None:
    first = RewardModel(str(scorer)).identity()
    assert RewardModel(str(scorer), batch_size=3).identity() == first
    os.utime(scorer / "model.safetensors", (1, 1))
    assert RewardModel(str(scorer)).identity() != first


def test_a_reward_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^judge\.path="):
        RewardModel(str(tmp_path / "nothing"))


# A chat model in this process


def test_a_chat_model_is_asked_for_both_orders(tmp_path: Path) -> None:
    make_tiny(tmp_path / "tiny")
    judge = PairwiseLM(path=str(tmp_path / "tiny"), max_tokens=4)
    assert judge_pairs(judge, ["p", "q", "r"], ["a"] * 3, ["b"] * 3) == [0.5] * 3
    assert sum(judge.remarks.values()) == 3, "random weights write no verdict"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", 1.0),
        ("I first thought [[A]], but [[B]]", 0.0),
        ("<think>[[A]]</think>[[C]]", 0.5),
        ("B.", 0.0),
        ("**A**", 1.0),
        ("tie", 0.5),
        ("A is better, and B is not", None),
        ("[[D]]", None),
        ("", None),
    ],
)
def test_what_a_judges_answer_says(text: str, verdict: float | None) -> None:
    assert read_verdict(text) == verdict


# An endpoint

Reply = Callable[[int, dict[str, Any]], tuple[int, str]]


class Server:
    """A chat-completions endpoint on loopback; ``reply`` gets the number of the request and its body."""

    def __init__(self, reply: Reply) -> None:
        seen: list[dict[str, Any]] = []
        headers: list[dict[str, str]] = []
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    seen.append(body)
                    headers.append({**dict(self.headers), "path": self.path})
                    number = len(seen)
                status, text = reply(number, body)
                if status == 0:
                    self.close_connection = True
                    return  # dies without an answer
                message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                content = json.dumps(message).encode() if status == 200 else text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.seen, self.headers = seen, headers
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def answers(body: dict[str, Any]) -> tuple[str, str]:
    text = body["messages"][0]["content"]
    return tuple(text.split(f"<answer {k}>\n")[1].split(f"\n</answer {k}>")[0] for k in "AB")  # type: ignore[return-value]


def longer(number: int, body: dict[str, Any]) -> tuple[int, str]:
    a, b = answers(body)
    return 200, "[[A]]" if len(a) > len(b) else "[[B]]" if len(b) > len(a) else "[[C]]"


def judge_at(server: Server, **keys: Any) -> PairwiseLM:
    return PairwiseLM(base_url=server.url, model="m", **{"wait": 0.01, "batch_size": 1, **keys})


def test_an_endpoint_is_asked_for_both_orders(serve: Callable[[Reply], Server]) -> None:
    server = serve(longer)
    judge = judge_at(server, criterion="long", options={"temperature": 0, "seed": 7, "top_p": None})
    assert judge_pairs(judge, ["p", "q", "r"], ["long", "s", "same"], ["l", "short", "emas"]) == [1.0, 0.0, 0.5]
    assert [answers(body) for body in server.seen[:2]] == [("long", "l"), ("l", "long")]
    assert len(server.seen) == 6
    assert server.headers[0]["path"] == "/v1/chat/completions"
    assert "Authorization" not in server.headers[0]
    body = server.seen[0]
    assert (body["model"], body["seed"], body["max_tokens"], "top_p" in body) == ("m", 7, 32, False)
    assert "Better means: long." in body["messages"][0]["content"]
    assert not judge.remarks


def test_a_judge_that_prefers_a_place_says_nothing(serve: Callable[[Reply], Server]) -> None:
    judge = judge_at(serve(lambda number, body: (200, "[[A]]")))
    assert judge_pairs(judge, ["p", "q"], ["a"] * 2, ["b"] * 2) == [0.5, 0.5]
    assert dict(judge.remarks) == {"pairs judged differently in the other order, taken as ties": 2}


def test_unreadable_answers_are_counted_ties(serve: Callable[[Reply], Server]) -> None:
    judge = judge_at(serve(lambda number, body: (200, "Hard to say.")))
    assert judge_pairs(judge, ["p"], ["a"], ["b"]) == [0.5]
    assert dict(judge.remarks) == {"unreadable answers of the judge, taken as ties": 1}


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_failures_are_tried_again(serve: Callable[[Reply], Server], status: int) -> None:
    server = serve(lambda number, body: (status, "busy") if number in (1, 2, 4) else longer(number, body))
    assert judge_pairs(judge_at(server), ["p"], ["long"], ["l"]) == [1.0]
    assert len(server.seen) == 5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_endpoint_that_dies_midway_costs_no_finished_verdict(
    serve: Callable[[Reply], Server], batch_size: int
) -> None:
    rows = ([str(number) for number in range(8)], ["long"] * 8, ["l"] * 8)
    server = serve(lambda number, body: longer(number, body) if number <= 7 else (500, "dead"))
    with pytest.raises(JudgeStopped, match=r"HTTP 500, 2 times in a row\.\n\d of 8 verdicts are cached") as stopped:
        judge_pairs(judge_at(server, attempts=2, batch_size=batch_size), *rows)
    kept = sum(verdict == 1.0 for verdict in stopped.value.verdicts)
    assert kept == 3 if batch_size == 1 else kept >= 1
    again = serve(longer)
    again_judge = judge_at(again, attempts=2)
    again_judge.settings["base_url"] = server.url  # the same endpoint, alive again
    assert judge_pairs(again_judge, *rows) == [1.0] * 8
    assert len(again.seen) == 2 * (8 - kept)


def test_a_refusal_ends_at_once_and_does_not_repeat_the_key(
    serve: Callable[[Reply], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(lambda number, body: (401, f"wrong key {KEY}"))
    with pytest.raises(UserError, match=r"HTTP 401 wrong key \*\*\*\. Check the key in judge\.api_key_env") as error:
        judge_pairs(judge_at(server, api_key_env="MY_KEY"), ["p"], ["a"], ["b"])
    assert len(server.seen) == 1
    assert KEY not in str(error.value)


def test_the_key_is_sent_and_written_nowhere(
    serve: Callable[[Reply], Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(longer)
    judge = judge_at(server, api_key_env="MY_KEY")
    judge_pairs(judge, ["p"], ["long"], ["l"])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 1
    assert not any(KEY.encode() in file.read_bytes() for file in files)
    assert KEY not in repr(vars(judge)) + repr(judge.identity()) + repr(judge.endpoint)


def test_a_redirect_is_not_followed(serve: Callable[[Reply], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve(lambda number, body: (302, "over there"))
    with pytest.raises(UserError, match="HTTP 302"):
        judge_pairs(judge_at(server, api_key_env="MY_KEY"), ["p"], ["a"], ["b"])
    assert [headers["path"] for headers in server.headers] == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "takes judge.path=FOLDER_OR_HUB_ID or judge.base_url=URL, one of them"),
        ({"path": "x", "base_url": "http://h"}, "one of them"),
        ({"base_url": "file:///etc", "model": "m"}, "must begin with http"),
        ({"base_url": "http://u:secret@h/v1", "model": "m"}, "must hold no key"),
        ({"base_url": "http://h/v1?key=secret", "model": "m"}, "must hold no key"),
        ({"base_url": "http://h/v1"}, "judge.model is needed"),
        ({"base_url": "http://h/v1", "model": "m", "api_key_env": "NOT_SET_HERE"}, "NOT_SET_HERE: this environment"),
        ({"base_url": "http://h/v1", "model": "m", "api_key_env": "sk-secret"}, "is not a variable's name"),
    ],
)
def test_settings_that_cannot_work(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        PairwiseLM(**keys)
    assert told in str(error.value)
    assert "secret" not in str(error.value)


# A person


def test_a_person_judges_blind_and_stops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Always choosing the first place is a coin's verdict: the order is random."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n" * 64 + "x\nt\nq\n"))
    rows = ([f"prompt {n}" for n in range(70)], ["[red]first[/red]"] * 70, ["second"] * 70)
    with pytest.raises(JudgeStopped, match=r"65 of 70 verdicts are cached") as stopped:
        judge_pairs(Person(), *rows)
    known = stopped.value.verdicts
    assert {*known[:64]} == {0.0, 1.0}
    assert (known[64], known[65]) == (0.5, None)
    shown = capsys.readouterr().err
    assert "65 of 70: prompt 64" in shown
    assert "[red]first[/red]" in shown
    monkeypatch.setattr(sys, "stdin", io.StringIO("t\n" * 5))
    assert judge_pairs(Person(), *rows)[64:] == [0.5] * 6


def test_a_persons_key_belongs_to_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(12):
        monkeypatch.setattr(sys, "stdin", io.StringIO("2\n"))
        (verdict,) = Person()(["p"], ["aaaa"], ["bbbb"])
        shown = capsys.readouterr().err
        assert verdict == float(shown.index("aaaa") > shown.index("bbbb"))
