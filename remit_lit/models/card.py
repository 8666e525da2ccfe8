"""Model cards: what a model directory says of how it was made."""

import json
from pathlib import Path
from typing import Any

from remit_lit.runs.folder import CONFIG, RECORD


def model_card(run: Path) -> str:
    """Markdown that says method, data and config of a run."""
    record: dict[str, Any] = json.loads((run / RECORD).read_text())
    config = (run / CONFIG).read_text() if (run / CONFIG).exists() else "(not run from the command line)"
    sources = "\n".join(
        f"- {name}: {count['tokens']:,} tokens in {count['documents']:,} documents"
        for name, count in record["data"]["counts"]["train"]["sources"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        "---\nlibrary_name: transformers\ntags: [mid-training, remit_lit]\n---\n\n"
        f"# Mid-trained with {record['weighting']}\n\n"
        f"Mid-training of {record['steps']:,} steps of {record['tokens_per_step']:,} tokens with remit_lit, "
        f"token weighting `{record['weighting']}` {json.dumps(record['weighting_settings'])}.\n\n"
        f"- policy: `{record['policy']}`\n- reference: `{record['reference']}`\n\n"
        f"## Results at the end of the run\n\n{_results(record)}\n\n"
        f"## Data\n\nRows `{record['data']['rows']['train']}`, made from\n\n{sources}\n\n"
        f"## Versions\n\n{versions}; git {record['git_revision']}\n\n"
        f"## Config\n\n```yaml\n{config}```\n"
    )


def _results(record: dict[str, Any]) -> str:
    figures = record.get("results", {})
    return "\n".join(f"- {name}: {value:.4f}" for name, value in figures.items()) or "None were measured."
