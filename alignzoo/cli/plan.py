"""``python -m alignzoo plan``: computes the memory and time of a run from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from alignzoo.cli.options import json_option, libraries_on_stderr, overrides_argument, print_json
from alignzoo.config.compose import compose
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.plan.survey import Survey, Target
    from alignzoo.plan.workload import Lengths

ADAPTERS = ("none", "lora", "qlora")

#: Bytes of a GPU for its context, the libraries' workspaces and the allocator's gaps: an allowance, not a measurement.
GPU_FIXED = 2**30


@dataclass(frozen=True)
class Machine:
    """The devices that the command line names; None is what this machine and the strategy have."""

    devices: int | None
    memory: float | None
    """GiB of one device."""

    tflops: float | None
    """Of one device, in large matrix products."""


def _above_zero(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise click.BadParameter("must be above 0")
    return value


@click.command
@overrides_argument
@click.option(
    "--devices", type=int, metavar="N", callback=_above_zero, help="GPUs (default: the strategy's processes)."
)
@click.option(
    "--memory", type=float, metavar="GIB", callback=_above_zero, help="Of one device (default: this machine's)."
)
@click.option(
    "--tflops", type=float, callback=_above_zero, help="Of one device, in large products (default: measured here)."
)
@click.option("--data", is_flag=True, help="Read the data for its lengths, instead of train.max_length.")
@json_option
def command(
    overrides: Sequence[str],
    devices: int | None,
    memory: float | None,
    tflops: float | None,
    data: bool,
    as_json: bool,
) -> int:
    """Compute the memory and time of a run, from the model's config alone.

    KEY=VALUE as for a run: method=... model=... strategy=... peft=...

    The exit code is 1 if the configured strategy does not fit. Of a run with +generate= the answers and tokens are
    counted, from the data; its memory is not planned.
    """
    cfg = compose(overrides)
    if "generate" in cfg and "pipeline" not in cfg:
        return _plan_generation(cfg, as_json)
    with libraries_on_stderr(as_json):
        survey, time, rate, steps = plan(overrides, Machine(devices, memory, tflops), data)
    from alignzoo.plan.table import print_survey, to_json

    fits = survey.fits(survey.table[survey.chosen.name][survey.cfg.peft.name])
    if as_json:
        print_json(to_json(survey, time, rate))
    else:
        if steps:
            print(f"plan: {steps}")
        print_survey(survey, time, rate)
        if not fits:
            print(advice(survey))
    return int(not fits)


def _plan_generation(cfg: DictConfig, as_json: bool) -> int:
    from alignzoo.config.check import check
    from alignzoo.generate.inputs import prepare_generation
    from alignzoo.generate.plan import plan_generation, print_plan
    from alignzoo.generate.sample import Sampling

    with libraries_on_stderr(as_json):
        inputs = prepare_generation(check(cfg))
        planned = plan_generation(inputs, Sampling.of(inputs))
    print_json(planned) if as_json else print_plan(planned)
    return 0


def plan(overrides: Sequence[str], machine: Machine, read_data: bool) -> tuple[Survey, Any, Any, Any]:
    """Return the survey, the time of a step with the rate behind it (None where unknown), and the data's plan."""
    from alignzoo.config.check import check
    from alignzoo.plan.seconds import estimate_step_time, make_rate, measure_rate
    from alignzoo.plan.skeleton import load_model_config
    from alignzoo.plan.survey import Survey
    from alignzoo.system.libraries import silence_libraries

    cfg = compose(overrides)
    checked = check(cfg)
    method = checked.method
    silence_libraries(cfg.telemetry)
    lengths, steps = _lengths(checked, read_data)
    config = load_model_config(cfg.model)
    target = _target(checked, machine)
    survey = Survey(cfg, method, config, lengths, _adapters(overrides, cfg), target)
    rate = make_rate(machine.tflops) if machine.tflops else None
    if rate is None and _here(target.device):
        rate = measure_rate(target.device, target.precision)
    time = rate and estimate_step_time(survey.passes(cfg.peft.name, target.devices), method, rate)
    return survey, time, rate, steps


def _lengths(checked: Checked, read: bool) -> tuple[Lengths, Any]:
    """Return the lengths of the rows, and with ``read`` the plan of steps and tokens."""
    from alignzoo.plan.workload import assume_lengths, read_lengths

    if not read:
        return assume_lengths(checked.cfg), None
    from alignzoo.train.inputs import prepare_run

    inputs = prepare_run(checked)
    return read_lengths(checked, inputs.data, inputs.rows), inputs.plan


def _adapters(overrides: Sequence[str], cfg: DictConfig) -> dict[str, DictConfig]:
    """Return the configured adapter and, as they come, the others."""
    others = [word for word in overrides if not word.lstrip("+~").startswith("peft")]
    found = {name: cfg if name == cfg.peft.name else compose([*others, f"peft={name}"]) for name in ADAPTERS}
    return {name: of.peft for name, of in ({cfg.peft.name: cfg} | found).items()}


def _target(checked: Checked, machine: Machine) -> Target:
    """Return the devices to plan for: GPUs where any of their numbers is given, else what this machine has."""
    from alignzoo.plan.survey import Target
    from alignzoo.plugin.method import import_object
    from alignzoo.system import memory as resident
    from alignzoo.system.device import choose_device, choose_precision

    cfg, method = checked.cfg, checked.method
    elsewhere = machine.memory or machine.devices or machine.tflops
    device = cfg.strategy.device
    if device == "auto":
        device = "cuda" if elsewhere else choose_device("auto")
    precision = cfg.train.precision
    if _here(device):
        precision = choose_precision(precision, device)
    elif precision == "auto":
        precision = "bf16"
    fixed = GPU_FIXED
    if device == "cpu":
        import_object(method.trainer)  # what a run has imported before its first weight
        fixed = resident.read_resident()
    memory = machine.memory * 2**30 if machine.memory else _memory(device)
    return Target(device, precision, machine.devices or checked.placement.processes, memory, fixed)


def _here(device: str) -> bool:
    import torch

    return device == "cpu" or (device == "cuda" and torch.cuda.is_available())


def _memory(device: str) -> float:
    """Return the bytes of this machine's device."""
    import psutil
    import torch

    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("this machine has no GPU: say how much memory one has, --memory GIB.")
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(psutil.virtual_memory().total)


def advice(survey: Survey) -> str:
    """Return what to change where the configured strategy does not fit."""
    fitting = [
        f"strategy={strategy} peft={adapter}"
        for strategy, row in survey.table.items()
        for adapter, need in row.items()
        if survey.fits(need)
    ]
    if fitting:
        return f"{survey.chosen.name} with peft={survey.cfg.peft.name} does not fit; {', or '.join(fitting[:3])} does."
    found = survey.find_remedy()
    if found:
        changes, need = found
        return f"nothing fits as it is; it does with {' '.join(changes)} ({need.bytes / 2**30:.2f} GiB per device)."
    return (
        "nothing fits, also with one row at a time and gradient checkpointing: take more devices, a smaller "
        f"train.max_length than {survey.cfg.train.max_length}, peft=qlora, or a smaller model."
    )
