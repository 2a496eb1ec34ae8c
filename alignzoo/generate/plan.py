"""Plans a generation: how many answers to which prompts, and the tokens that they take at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.generate.score import name_scorer
from alignzoo.system import ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alignzoo.generate.inputs import GenerationInputs
    from alignzoo.generate.sample import Sampling

#: Decisions on rows whose prompts are not answered -> what they are called.
SIDES = {"heldout": "held out", "validation": "for validation", "dropped": "left out"}


def plan_generation(inputs: GenerationInputs, sampling: Sampling) -> dict[str, Any]:
    """Return what will be sampled, of which prompts, and what scores it."""
    answers = len(inputs.prompts) * sampling.samples
    return {
        "layout": str(inputs.data.layout),
        "rows": inputs.data.manifest["decision"].value_counts().to_dict(),
        "prompts": len(inputs.prompts),
        "samples": sampling.samples,
        "answers": answers,
        "max_new_tokens": sampling.max_new_tokens,
        "tokens_at_most": answers * sampling.max_new_tokens,
        "scored_by": name_scorer(inputs),
    }


@ranks.on_main
def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what :func:`plan_generation` returned."""
    rows = plan["rows"]
    held = ", ".join(f"{rows[side]:,} {what}" for side, what in SIDES.items() if side in rows)
    print(f"data: {plan['layout']}")
    print(f"rows: {rows.get('train', 0):,} with {plan['prompts']:,} prompts to answer; not answered: {held or 'none'}")
    limit = f"of at most {plan['max_new_tokens']:,} tokens ({plan['tokens_at_most']:,} in all)"
    print(
        f"plan: {plan['answers']:,} answers, {plan['samples']} to each prompt, {limit}, scored by {plan['scored_by']}",
        flush=True,
    )
