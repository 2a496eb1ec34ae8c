"""``alignzoo verify-losses``: agreement with the papers, and each way of computing another loss, found and named."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from inprocess import call
from repository import ROOT

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.plugin.registry import registry

METHODS = ("dpo", "grpo", "ipo", "kto", "orpo", "rloo", "sft")

Verify = Callable[..., tuple[int, dict[str, dict[str, Any]]]]

#: A method with DPO's trainer; the body is its equation.
PLUGIN = """
from alignzoo import DataFormat, Method, hookimpl

class Fake(Method):
    "Fake (nobody, 2030)."
    name = "{name}"
    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    pinned = {{"loss_type": ["hinge"]}}
{equation}

@hookimpl
def alignzoo_methods():
    return [Fake]

@hookimpl
def alignzoo_config_packages():
    return ["{name}.conf"]
"""

HINGE = """
    @classmethod
    def equation(cls, cfg, batch):
        "Zhao et al., 2023, rank loss."
        margins = batch["chosen"].log_ratio.sum(-1) - batch["rejected"].log_ratio.sum(-1)
        return (1 - cfg.method.beta * margins).clamp(min=0).mean()
"""

OPTION = "name: {name}\nbeta: 0.3\nlearning_rate: 1e-6\nlearning_rates: {{full: 1e-6, small: 1e-6, adapter: 1e-6}}\n"


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run ``verify-losses --json`` in this process; return its exit code, and what it says of each method."""

    def run(*names: str) -> tuple[int, dict[str, dict[str, Any]]]:
        capsys.readouterr()
        code = run_command(["verify-losses", *names, "--json"])
        said = json.loads(capsys.readouterr().out)
        assert said["trl"] == importlib.metadata.version("trl")
        return code, {line["method"]: line for line in said["methods"]}

    return run


@pytest.fixture
def plugin(fake_package: Callable[..., None]) -> Callable[[str, str], None]:
    """Install a method of that name with that equation."""

    def install(name: str, equation: str) -> None:
        code = PLUGIN.format(name=name, equation=equation)
        fake_package(name, code, {f"method/{name}.yaml": OPTION.format(name=name)})

    return install


def test_every_first_party_loss_is_its_papers(verify: Verify) -> None:
    code, said = verify(*METHODS)
    assert (code, {line["verdict"] for line in said.values()}) == (0, {"agrees"})
    for line in said.values():
        assert line["difference"] < 1e-5
        assert line["gradient_difference"] < 1e-4  # a tenth of the limit: nothing agrees by luck
        assert "20" in line["equation"]  # paper and year


# --- TRL's side altered ----------------------------------------------------------------------------------------------

TRAINERS = {
    "dpo": "trl:DPOTrainer",
    "ipo": "trl:DPOTrainer",
    "kto": "trl:KTOTrainer",
    "orpo": "trl.experimental.orpo:ORPOTrainer",
    "sft": "trl:SFTTrainer",
    "grpo": "trl:GRPOTrainer",
    "rloo": "trl:RLOOTrainer",
}


def trainer_class(method: str) -> Any:
    module, name = TRAINERS[method].split(":")
    return getattr(importlib.import_module(module), name)


def set_before_loss(name: str, change: Callable[[Any], Any]) -> Callable[[Any, str], None]:
    """Alter an attribute of the trainer, once, at its first loss."""

    def alter(monkeypatch: Any, method: str) -> None:
        cls = trainer_class(method)
        original = cls.compute_loss

        def altered(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(self, "altered"):
                self.altered = True
                setattr(self, name, change(getattr(self, name)))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, "compute_loss", altered)

    return alter


def change_loss(change: Callable[[Any], Any]) -> Callable[[Any, str], None]:
    """Alter what the trainer's loss returns."""

    def alter(monkeypatch: Any, method: str) -> None:
        cls = trainer_class(method)
        original = cls.compute_loss
        monkeypatch.setattr(cls, "compute_loss", lambda *args, **kwargs: change(original(*args, **kwargs)))

    return alter


def change_inputs(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any, str], None]:
    """Alter what the trainer's loss is computed from."""

    def alter(monkeypatch: Any, method: str) -> None:
        cls = trainer_class(method)
        original = cls.compute_loss

        def altered(self: Any, model: Any, inputs: Any, **kwargs: Any) -> Any:
            return original(self, model, change(inputs), **kwargs)

        monkeypatch.setattr(cls, "compute_loss", altered)

    return alter


scaled = set_before_loss("beta", lambda beta: 1.1 * beta)
none = set_before_loss("beta", lambda beta: 0.0)
flipped = change_loss(lambda loss: -loss)
#: The loss is the same and its gradient is a hundredth off.
steeper = change_loss(lambda loss: loss + 0.01 * (loss - loss.detach()))


def without(*names: str) -> Callable[[Any, str], None]:
    """Zero tensors of the batch, as if the term were missing."""
    return change_inputs(lambda inputs: {**inputs, **{name: torch.zeros_like(inputs[name]) for name in names}})


def swapped(monkeypatch: Any, method: str) -> None:
    """Good answers count as bad."""
    change_inputs(lambda inputs: {**inputs, "label": ~torch.as_tensor(inputs["label"], dtype=torch.bool)})(
        monkeypatch, method
    )


TRL_ALTERED = [
    *(("dpo", change) for change in (scaled, flipped, steeper, without("ref_chosen_logps", "ref_rejected_logps"))),
    *(("ipo", change) for change in (scaled, flipped, steeper, without("ref_chosen_logps", "ref_rejected_logps"))),
    *(("kto", change) for change in (scaled, flipped, steeper, swapped)),
    ("kto", set_before_loss("calculate_KL", lambda on: False)),
    ("kto", set_before_loss("desirable_weight", lambda weight: 1.1 * weight)),
    *(("orpo", change) for change in (scaled, none, flipped, steeper)),
    *(("sft", change) for change in (flipped, steeper, change_loss(lambda loss: 1.001 * loss))),
    ("sft", change_inputs(lambda inputs: {**inputs, "labels": inputs["input_ids"].clone()})),  # the prompt too
    *(("grpo", change) for change in (scaled, none, flipped, steeper)),
    ("grpo", set_before_loss("loss_type", lambda kind: "grpo")),  # another average over tokens
    ("grpo", set_before_loss("epsilon_low", lambda low: 1e9)),  # no clip
    ("grpo", set_before_loss("epsilon_high", lambda high: 1e9)),
    ("grpo", change_inputs(lambda inputs: {**inputs, "old_per_token_logps": None})),
    ("grpo", change_inputs(lambda inputs: {**inputs, "advantages": 1.001 * inputs["advantages"]})),
    *(("rloo", change) for change in (flipped, steeper)),
    ("rloo", set_before_loss("epsilon_low", lambda low: 1e9)),
    ("rloo", change_inputs(lambda inputs: {**inputs, "advantages": 1.001 * inputs["advantages"]})),
    ("rloo", change_inputs(lambda inputs: {**inputs, "old_logps": 0.999 * inputs["old_logps"]})),
]


#: Seen by any comparison of losses: of each method, a finer change is in every suite, and these in `nox -s zoo`.
COARSE = (none, flipped)


@pytest.mark.parametrize(
    ("method", "alter"),
    [pytest.param(method, alter, marks=pytest.mark.zoo if alter in COARSE else ()) for method, alter in TRL_ALTERED],
)
def test_another_loss_in_trl_is_named(
    verify: Verify, monkeypatch: pytest.MonkeyPatch, method: str, alter: Callable[[Any, str], None]
) -> None:
    alter(monkeypatch, method)
    code, said = verify(method)
    assert (code, said[method]["verdict"]) == (1, "differs")


def test_a_reference_that_is_not_the_start_model_is_named(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    alter = change_inputs(lambda inputs: {**inputs, "ref_per_token_logps": inputs["old_per_token_logps"]})
    alter(monkeypatch, "grpo")
    assert verify("grpo")[1]["grpo"]["verdict"] == "differs"


# --- the equation altered --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    ["scaled", pytest.param("flipped", marks=pytest.mark.zoo), pytest.param("missing", marks=pytest.mark.zoo)],
)
@pytest.mark.parametrize("method", METHODS)
def test_another_equation_is_named(verify: Verify, monkeypatch: pytest.MonkeyPatch, method: str, change: str) -> None:
    cls = registry().method(method)
    original = cls.equation.__func__  # type: ignore[attr-defined]

    def altered(cls: Any, cfg: Any, batch: Any) -> Any:
        if change == "missing":
            column = next(name for name in ("rejected", "completion") if name in batch.columns)
            answers = batch[column]
            batch = dataclasses.replace(batch, columns={**batch.columns, column: cut(answers)})
        if change == "scaled":
            return 1.001 * original(cls, cfg, batch)
        return original(cls, cfg, batch) * (-1 if change == "flipped" else 1)

    monkeypatch.setattr(cls, "equation", classmethod(altered))
    code, said = verify(method)
    assert (code, said[method]["verdict"]) == (1, "differs")


def cut(answers: Any) -> Any:
    """Leave out each answer's first token."""
    kept = torch.ones_like(answers.mask)
    kept[:, 0] = 0
    return dataclasses.replace(
        answers, **{name: kept * getattr(answers, name) for name in ("policy", "reference", "old", "mask")}
    )


# --- what is printed -------------------------------------------------------------------------------------------------


def test_the_table_names_paper_version_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    scaled(monkeypatch, "dpo")
    assert run_command(["verify-losses", "dpo", "sft"]) == 1
    out = capsys.readouterr().out
    version = importlib.metadata.version("trl")
    assert "Rafailov et al., 2023, equation 7" in out
    assert f"TRL {version}" in out.splitlines()[0]
    assert f"TRL {version} computes another loss than the paper's: dpo." in out
    assert "pip install 'trl" in out
    (line,) = [line for line in out.splitlines() if line.startswith("sft")]
    assert line.rstrip().endswith("agrees")


def test_a_method_that_no_plugin_adds_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"method=dpp: no installed plugin adds it\. Did you mean dpo"):
        run_command(["verify-losses", "dpp"])


def test_the_command_is_there() -> None:
    done = call("verify-losses", "sft", "--json")
    assert (done.code, json.loads(done.out)["methods"][0]["verdict"]) == (0, "agrees"), done.err


# --- the words of a run ----------------------------------------------------------------------------------------------


def test_the_words_of_a_run_are_compared(verify: Verify) -> None:
    code, said = verify("method=dpo", "+method.ld_alpha=0.5", "model=bundled", "train.global_batch_size=64")
    assert (code, said["dpo"]["verdict"]) == (0, "agrees")
    assert said["dpo"]["trl_loss"] != pytest.approx(verify("dpo")[1]["dpo"]["trl_loss"], rel=1e-3)


def test_the_setting_that_the_equation_does_not_cover_is_named(verify: Verify) -> None:
    code, said = verify("method=dpo", "method.beta=0.3", "method.loss_type=[bco_pair]")
    assert (code, said["dpo"]["verdict"]) == (0, "not verified")
    assert said["dpo"]["reason"] == "the equation does not cover method.loss_type=['bco_pair']"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("method=dpo", "dpo"), "dpo: write method=dpo beside a run's other words, or methods' names alone"),
        (("method=exo", "method.label_smoothing=0"), r"label_smoothing=0 must be above 0"),
    ],
)
def test_words_that_no_run_has_are_a_mistake(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run_command(["verify-losses", *words])


# --- other people's methods ------------------------------------------------------------------------------------------


def test_a_method_with_an_equation_of_its_own_is_verified(verify: Verify, plugin: Callable[[str, str], None]) -> None:
    plugin("fake_hinge", HINGE)
    code, said = verify("fake_hinge")
    assert (code, said["fake_hinge"]["verdict"]) == (0, "agrees")
    assert said["fake_hinge"]["equation"] == "Zhao et al., 2023, rank loss"


def test_the_equation_of_the_how_to_agrees(verify: Verify, fake_package: Callable[..., None]) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-method.md").read_text()
    python = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in python if "alignzoo_methods" in block]
    (equation,) = [block for block in python if "def equation" in block and "SLiC" in block]
    (option,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    body = equation.partition("    ...\n")[2]
    code = code.replace("\n\n\n@hookimpl", f"\n{body}\n\n@hookimpl", 1).replace("alignzoo_slic.conf", "fake_slic.conf")
    fake_package("fake_slic", code, {"method/slic.yaml": option})
    code_of_exit, said = verify("slic")
    assert (code_of_exit, said["slic"]["verdict"]) == (0, "agrees"), said


HOOKS = """

@hookimpl
def alignzoo_methods():
    return [Classifier]

@hookimpl
def alignzoo_config_packages():
    return ["fake_classifier.conf"]
"""


def test_the_loss_on_single_answers_of_the_how_to_agrees(verify: Verify, fake_package: Callable[..., None]) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-method.md").read_text()
    python = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in python if "class Classifier" in block]
    code = code.replace("import AnswerLoss", "import AnswerLoss, hookimpl") + HOOKS
    fake_package("fake_classifier", code, {"method/classifier.yaml": OPTION.format(name="classifier")})
    code_of_exit, said = verify("classifier")
    assert (code_of_exit, said["classifier"]["verdict"]) == (0, "agrees"), said


def test_a_wrong_equation_is_named(verify: Verify, plugin: Callable[[str, str], None]) -> None:
    plugin("fake_hinge", HINGE.replace("1 - cfg", "2 - cfg"))
    code, said = verify("fake_hinge", "sft")
    assert (code, said["fake_hinge"]["verdict"], said["sft"]["verdict"]) == (1, "differs", "agrees")


def test_a_method_without_an_equation_is_not_verified(verify: Verify, plugin: Callable[[str, str], None]) -> None:
    plugin("fake_plain", "")
    code, said = verify("fake_plain")
    assert (code, said["fake_plain"]["verdict"]) == (0, "not verified")
    assert said["fake_plain"]["reason"] == "the method gives no equation"


def test_an_equation_that_does_not_cover_the_settings_is_not_verified(
    verify: Verify, plugin: Callable[[str, str], None]
) -> None:
    plugin("fake_open", "    @classmethod\n    def equation(cls, cfg, batch):\n        return None\n")
    code, said = verify("fake_open")
    assert (code, said["fake_open"]["verdict"]) == (0, "not verified")
    assert "does not cover" in said["fake_open"]["reason"]


def test_a_broken_method_is_listed_with_its_reason_and_the_others_go_on(
    verify: Verify, plugin: Callable[[str, str], None]
) -> None:
    plugin(
        "fake_torn", HINGE + "\n    def build_trainer(self, parts):\n        raise RuntimeError('no [GPU] for you')\n"
    )
    code, said = verify("fake_torn", "sft")
    assert (code, said["fake_torn"]["verdict"], said["sft"]["verdict"]) == (1, "broken", "agrees")
    assert said["fake_torn"]["reason"] == "RuntimeError: no [GPU] for you"


def test_a_plugin_that_cannot_be_imported_is_listed(
    verify: Verify, fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package("fake_absent", "import nothing_of_that_name")
    monkeypatch.setattr("alignzoo.train.losses.compare.has_equation", lambda method: False)  # the others take seconds
    code, said = verify()
    assert (code, said["fake_absent"]["verdict"]) == (1, "broken")
    assert "nothing_of_that_name" in said["fake_absent"]["reason"]
    assert {said[method]["verdict"] for method in METHODS} == {"not verified"}
