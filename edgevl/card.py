"""The model card of a bundle: README.md, generated from the manifest and from nothing else."""

from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ValidationError

from edgevl.manifest import Manifest
from edgevl.plain import plain_markdown

README = "README.md"
_TEMPLATE = """\
# {{ m.name }} for {{ m.target }}, {{ m.precision }}

A detector-free vision-language model ({{ m.task }}): it takes raw pixels and a question and scores \
{{ m.labels.count }} answers. Written by EdgeVL {{ m.versions.get("edgevl", "") }}; license {{ m.license }}.

| | |
|---|---|
| Artifact | `{{ m.artifact }}`, {{ "{:,}".format(artifact_bytes) }} bytes |
{%- for spec in m.inputs %}
| Input `{{ spec.name }}` | {{ describe(spec) }} |
{%- endfor %}
{%- for spec in m.outputs %}
| Output `{{ spec.name }}` | {{ describe(spec) }} |
{%- endfor %}
| Preprocessing | squash to {{ m.preprocessing.size }}x{{ m.preprocessing.size }} RGB with a triangle filter and \
antialias; normalization is inside |
| Tokenizer | `{{ m.tokenizer.file }}`, {{ m.tokenizer.vocab_size }} pieces, {{ m.tokenizer.length }} tokens, \
padding {{ m.tokenizer.pad_id }} |
| Labels | `{{ m.labels.file }}`, in the order of the logits |
| Backbone | {{ m.model.backbone }}, width {{ m.model.width }}, depth {{ m.model.depth }} |
| Checkpoint | {{ m.provenance.checkpoint }}{% if m.provenance.checkpoint_sha256 %}, \
sha256 `{{ m.provenance.checkpoint_sha256[:16] }}…`{% endif %} |
{%- if m.provenance.recipe %}
| Recipe | {{ m.provenance.recipe }} |
{%- endif %}
{%- if m.provenance.data %}
| Training data | {{ m.provenance.data }} |
{%- endif %}
{%- if m.provenance.calibration %}
| Calibration | {{ m.provenance.calibration }} |
{%- endif %}

## Measured

{% if m.accuracy -%}
| | this artifact | PyTorch, float |
|---|---|---|
| Accuracy on {{ m.accuracy.samples }} samples of {{ m.accuracy.data }} | {{ percent(m.accuracy.artifact) }} \
(95 %: {{ percent(m.accuracy.ci95[0]) }} to {{ percent(m.accuracy.ci95[1]) }}) | {{ percent(m.accuracy.reference) }} |
{%- for kind, score in m.accuracy.per_kind.items() %}
| {{ kind }} ({{ score.samples }}) | {{ percent(score.artifact) }} | {{ percent(score.reference) }} |
{%- endfor %}

Run by: {{ m.accuracy.runtime }}.
{% else -%}
Accuracy: not measured yet. `edgevl verify` measures it and writes it here.
{% endif %}
{% if m.parity -%}
Parity with PyTorch on {{ m.parity.samples }} samples: largest difference of a logit \
{{ "%.3g"|format(m.parity.max_abs) }}, PSNR {{ "%.1f"|format(m.parity.psnr_db) }} dB, \
same answer for {{ percent(m.parity.top1_agreement) }}.
{%- else -%}
Parity with PyTorch: not measured yet.
{%- endif %}

{% if times -%}
Times on {{ times.machine }} (`edgevl bench`, preset {{ times.preset }}):

| | threads | queries | p50, ms | p90, ms |
|---|---|---|---|---|
{%- for one in times.results %}
| {{ one.scope }} | {{ one.threads }} | {{ one.n }} | {{ "%.2f"|format(one.p50_ms) }} \
| {{ "%.2f"|format(one.p90_ms) }} |
{%- endfor %}
{%- else -%}
Times: not measured yet. `edgevl bench` measures them and writes them here.
{%- endif %}

## Using it

```
edgevl predict THIS_FOLDER sample "what color is the car?"
edgevl verify THIS_FOLDER
```

Outside Python: `manifest.json` says what goes in and out, `golden.json` holds cases that an app replays to check its \
own preprocessing, and docs/bundle.md of EdgeVL describes both to the last rounding.

## Limits

It gives one of {{ m.labels.count }} fixed answers, whatever it is asked. \
{% if m.provenance.data -%}
It knows what it was trained on, {{ m.provenance.data }}, and nothing else. \
{% endif -%}
Numbers above hold for the data named there and for no other.
{%- if "domain.json" in m.files %} `domain.json` tells an app which pictures, words and answers are of \
another kind, and how often an answer is right; `edgevl predict` says so.
{%- endif %}
"""


class _Row(BaseModel):
    scope: str
    threads: int
    n: int
    p50_ms: float
    p90_ms: float


class _Times(BaseModel):
    """What the card shows of the section `bench`, which a bundle from elsewhere may fill with anything."""

    machine: str
    preset: str
    results: list[_Row]


def _times(section: dict[str, Any] | None) -> _Times | None:
    try:
        return _Times.model_validate(section)
    except ValidationError:
        return None


def render_card(manifest: Manifest) -> str:
    """Return the text of README.md."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=plain_markdown
    )
    size = manifest.artifact_bytes
    template = environment.from_string(_TEMPLATE)
    return template.render(
        m=manifest, artifact_bytes=size, describe=_describe, percent=_percent, times=_times(manifest.bench)
    )


def write_card(folder: Path, manifest: Manifest) -> None:
    (folder / README).write_text(render_card(manifest), encoding="utf-8", newline="\n")


def _describe(spec) -> str:
    limits = f", {spec.range[0]:g} to {spec.range[1]:g}" if spec.range else ""
    kind = "picture, " if spec.kind == "image" else ""
    return f"{kind}{spec.dtype} {list(spec.shape)} ({spec.layout}){limits}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f} %"
