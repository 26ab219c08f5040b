"""What languages, controls, question kinds, measures and conventions are called in tables, figures and pages."""

from __future__ import annotations

from collections.abc import Sequence

from parrot.config.catalog import Benchmark

WORDS = {
    "non_english": "non-English mean",
    "all": "all images",
    "image_source": "Image source",
    "run": "Run",
    "kind": "Question kind",
    "l2-category": "Ability (l2-category)",
    "split": "Split",
    "measure": "Measure",
    "comparison": "Comparison",
    "difference": "difference",
    "detectable": "minimum detectable effect",
    "p_holm": "p, adjusted",
    "same_different": "same or different",
    "yes_no": "yes or no",
    "fine_naming": "naming among similar concepts",
    "four_option": "all four-option kinds",
    "easy": "easy distractors",
    "hard": "hard distractors (same subgroup)",
    "seen_in_language": "concept shown in this language's training data",
    "unseen_in_language": "concept never shown in this language's training data",
    "none": "with its image",
    "shuffled": "with a wrong image",
    "text": "image replaced by its name",
    "text_before": "image replaced by its name, before stage 2",
    "unmatched": "predictions that match no option",
    "other_language": "right options in another language",
}


def prompt_languages(said: str, benchmarks: Sequence[Benchmark]) -> str:
    """Return the runs' prompt_language and that of benchmarks with their own: ``dataset; group for MMBench_DEV_CN``."""
    own = [f"{entry.prompt_language} for {entry.called}" for entry in benchmarks if entry.prompt_language]
    return "; ".join(own if own and len(own) == len(benchmarks) else [said, *own])
