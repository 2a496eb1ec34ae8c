"""Secrets are known by their keys and their form; what comes from the environment stays as it was typed."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from alignzoo.config.secrets import (
    hide_environment,
    hide_in_code,
    hide_in_text,
    hide_in_word,
    hide_secrets,
    keep_environment,
    list_variables,
    mask,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "planted-in-the-environment")
    monkeypatch.setenv("RATE", "0.001")
    monkeypatch.setenv("EMPTY", "")


def test_the_environment_stays_as_typed_and_the_rest_is_resolved() -> None:
    typed = {
        "direct": "${oc.env:KEY}",
        "inside": "Bearer ${oc.env:KEY}",
        "by way": "${direct}",
        "further": "<${inside}>",
        "decoded": "${oc.decode:${oc.env:RATE}}",
        "with default": "${oc.env:ABSENT,other}",
        "empty": "${oc.env:EMPTY}",
        "list": [1, "${oc.env:KEY}", {"deep": "${oc.env:KEY}"}],
        "number": "${five}",
        "five": 5,
        "missing": "???",
        "none": None,
    }
    assert keep_environment(OmegaConf.create(typed)) == {**typed, "number": 5}


def test_a_default_of_a_variable_that_is_not_set_is_no_secret() -> None:
    assert list_variables(OmegaConf.create({"a": "${oc.env:ABSENT,x}", "b": "${oc.env:KEY} ${oc.env:RATE}"})) == [
        "KEY",
        "RATE",
    ]


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "apikey", "API-KEY", "secret_key", "access_key_id", "private_key", "password", "passwd", "secret"),
        *(
            "client_secret",
            "credentials",
            "Authorization",
            "token",
            "hub_token",
            "access_token",
            "HF_TOKEN",
            "bot_token",
        ),
    ],
)
def test_a_key_that_says_so_holds_a_secret(key: str) -> None:
    cfg = OmegaConf.create({"group": {key: "planted"}, "list": [{key: "planted"}]})
    assert "planted" not in str(hide_secrets(cfg))
    assert hide_in_word(f"+group.{key}=planted") == f"+group.{key}=***"


@pytest.mark.parametrize(
    "key",
    [
        *("api_key_env", "pad_token", "eos_token", "max_new_tokens", "bin_tokens", "per_device_batch_tokens", "key"),
        *("tokenizer", "secretary", "keys", "monkey", "prompt_key", "columns.token_ids"),
    ],
)
def test_other_keys_do_not(key: str) -> None:
    assert hide_secrets(OmegaConf.create({key: "planted"})) == {key: "planted"}
    assert hide_in_word(f"{key}=planted") == f"{key}=planted"


@pytest.mark.parametrize("word", ["a.api_key=${oc.env:KEY}", "a.api_key=null", "a.api_key=", "~a.api_key", "-m"])
def test_a_word_without_a_secret_stays(word: str) -> None:
    assert hide_in_word(word) == word


@pytest.mark.parametrize(
    "secret",
    [
        *("hf_aBcdefghijklmnopqrs7", "sk-proj-aBcdefghijklmno7", "ghp_aBcdefghijklmnopqrs7", "AKIAABCDEFGHIJKLMNOP"),
        *("glpat-aBcdefghijklmno7", "github_pat_aBcdefghijklmno7", "xoxb-123456789012-abc"),
    ],
)
def test_keys_of_well_known_makers_are_masked_wherever_they_stand(secret: str) -> None:
    assert hide_in_text(f"refused {secret}: expired") == "refused ***: expired"
    assert mask(["judge.options.header=" + secret]) == ["judge.options.header=***"]


@pytest.mark.parametrize(
    "name",
    [
        *("hf_ultrafeedback_binarized_2024.jsonl", "asia-preference-pairs.jsonl", "org/sk-slovak-llama-7b-Instruct"),
        *("npm_questions_and_answers", "akia_team_experiments_first", "git clone ssh://git@host/repository"),
    ],
)
def test_names_of_models_and_files_are_no_keys(name: str) -> None:
    assert hide_in_word(f"dataset.path={name}") == f"dataset.path={name}"


def test_names_of_columns_are_no_secrets() -> None:
    columns = {"token": "prompt", "secret": "chosen"}
    assert mask({"dataset": {"columns": columns}}) == {"dataset": {"columns": columns}}
    assert hide_in_word("dataset.columns={token: prompt, secret: chosen}").count("***") == 0


@pytest.mark.parametrize(
    "word",
    [
        "+tracker.headers={Authorization: 'Basic planted1'}",
        "+tracker.headers=[{api_key: planted1}]",
        "+tracker.h={auth_token: planted1}",
        "+tracker.note='api_key=planted1'",
        "+tracker.url=https://planted1@host/x",
        "+tracker.url='https://host/x?api_key=planted1'",
        """+tracker.json='{"password": "planted1"}'""",
        "+tracker.api_keys=[planted1,planted1]",
        "+tracker.secret={value: planted1}",
        "+tracker.pwd=planted1",
    ],
)
def test_a_secret_within_a_word_is_masked_in_it_and_in_what_it_sets(word: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert "planted" not in hide_in_word(word)
    parsed = OverridesParser.create().parse_override(word)
    assert "planted" not in str(mask({str(parsed.key_or_group).split(".")[-1]: parsed.value()}))


def test_an_error_does_not_name_what_the_environment_holds() -> None:
    cfg = OmegaConf.create({"a": "${oc.env:KEY}", "b": "${oc.env:ABSENT}"})
    assert hide_environment(cfg, "a='planted-in-the-environment' is no number") == "a='${oc.env:KEY}' is no number"


@pytest.mark.parametrize("text", ["https://user:planted@host/v1", "Bearer planted-token", "bearer planted.token"])
def test_passwords_in_addresses_and_headers_are_masked(text: str) -> None:
    assert "planted" not in hide_in_text(text)


def test_ordinary_text_is_left_alone() -> None:
    text = "sk-learn and hf_hub at https://host:8000/v1/a@b cost 3:4 tokens; task-specific risk-averse"
    assert hide_in_text(text) == text


@pytest.mark.parametrize(
    "line",
    [
        *(
            '+API_KEY = "planted"',
            "+export AWS_SECRET_ACCESS_KEY=planted/1",
            "-  password: planted1",
            "+token: planted1",
        ),
        *('+    "client_secret": "planted",', "+HF_TOKEN=planted1", "+token: planted1", "+db_password='planted'"),
    ],
)
def test_assignments_in_a_diff_are_masked(line: str) -> None:
    assert "planted" not in hide_in_code(f"@@ -1 +1 @@\n{line}\n")


def test_a_private_key_in_a_diff_is_masked_whole() -> None:
    text = "+-----BEGIN OPENSSH PRIVATE KEY-----\n+planted\n+-----END OPENSSH PRIVATE KEY-----\n+after"
    assert hide_in_code(text) == "+***\n+after"


@pytest.mark.parametrize("line", ["+tokenizer.pad_token = tokenizer.eos_token", "+max_new_tokens = 3000000", "+n = 3"])
def test_other_lines_of_a_diff_stay(line: str) -> None:
    assert hide_in_code(line) == line
