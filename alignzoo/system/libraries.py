"""Keeps the libraries' notices and questions off the terminal, and their reports to their makers at home."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def silence_libraries(telemetry: bool) -> None:
    """Silence TRL, transformers, datasets and tqdm; unless ``telemetry``, TRL reports no run to its makers.

    transformers asks nobody whether code that comes with a model may run: where the caller does not say so, as a
    plugin may forget to, it refuses.

    To be called before transformers is imported, which reads the variables then.
    """
    if not telemetry:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    for name in ("matplotlib", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A plan says in one line why it cannot follow a model; torch would print the traceback before it.
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

    import datasets
    import transformers
    from transformers.utils import loading_report

    from alignzoo.system.console import escape_bars

    escape_bars()

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # patch: transformers dynamic_module_utils.TIME_OUT_REMOTE_CODE
    transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    # patch: transformers loading_report.PALETTE
    loading_report.PALETTE = dict.fromkeys(loading_report.PALETTE, "")
