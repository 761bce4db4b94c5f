"""The model card of a bundle: README.md, generated from the manifest and from nothing else."""

from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ValidationError

from edgevl.bundle.manifest import Manifest, metric_title
from edgevl.plain import plain_markdown

README = "README.md"
_TEMPLATE = """\
# {{ m.name }} for {{ m.target }}, {{ m.precision }}

A detector-free vision-language model ({{ m.task }}): raw pixels go in. {{ does }} \
Written by EdgeVL {{ m.versions.get("edgevl", "") }}; license {{ m.license }}.

| | |
|---|---|
| Artifact | `{{ m.artifact }}`, {{ "{:,}".format(artifact_bytes) }} bytes |
{%- for program in m.programs %}
{%- for spec in program.inputs %}
| Input `{{ spec.name }}`{{ of(program) }} | {{ describe(spec) }}; {{ source(spec.source) }} |
{%- endfor %}
{%- for spec in program.outputs %}
| Output `{{ spec.name }}`{{ of(program) }} | {{ describe(spec) }} |
{%- endfor %}
{%- endfor %}
{%- for name, p in m.image_processing.items() %}
| Pictures{{ "" if name == "main" else " (" ~ name ~ ")" }} | {{ p.geometry }} to {{ p.size }}x{{ p.size }} RGB with a \
{{ p.kernel }} filter and antialias; normalization is inside |
{%- endfor %}
{%- for name, t in m.text_processing.items() %}
| Texts{{ "" if name == "main" else " (" ~ name ~ ")" }} | {{ t.kind }}, `{{ t.file }}`, {{ t.vocab_size }} pieces, \
{{ t.length }} tokens, padding {{ t.pad_id }} |
{%- endfor %}
{%- if m.labels %}
| Labels | `{{ m.labels.file }}`, {{ m.labels.count }} in the order of the scores |
{%- endif %}
{%- if backbone %}
| Backbone | {{ backbone }} |
{%- endif %}
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
| {{ title(m.accuracy.metric) }} on {{ m.accuracy.samples }} samples of {{ m.accuracy.data }} \
| {{ percent(m.accuracy.artifact) }} \
(95 %: {{ percent(m.accuracy.ci95[0]) }} to {{ percent(m.accuracy.ci95[1]) }}) | {{ percent(m.accuracy.reference) }} |
{%- for each in m.accuracy.metrics if each.name != m.accuracy.metric %}
| {{ title(each.name) }} | {{ percent(each.artifact) }} (95 %: {{ percent(each.ci95[0]) }} to \
{{ percent(each.ci95[1]) }}) | {{ percent(each.reference) }} |
{%- endfor %}
{%- for kind, score in m.accuracy.per_kind.items() if kind != "all" %}
| {{ kind }} ({{ score.samples }}) | {{ percent(score.artifact) }} | {{ percent(score.reference) }} |
{%- endfor %}

Run by: {{ m.accuracy.runtime }}.
{% else -%}
Accuracy: not measured yet. `edgevl verify` measures it and writes it here.
{% endif %}
{% if m.parity -%}
Parity with PyTorch on {{ m.parity.samples }} samples: largest difference of a value \
{{ "%.3g"|format(m.parity.max_abs) }}, PSNR {{ "%.1f"|format(m.parity.psnr_db) }} dB\
{% if m.parity.snr_db is not none %}, signal to noise around the mean \
{{ "%.1f"|format(m.parity.snr_db) }} dB{% endif %}, \
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
edgevl predict THIS_FOLDER sample{% for text in texts %} "{{ text }}"{% endfor %}
edgevl verify THIS_FOLDER
```

Outside Python: `manifest.json` says what goes in and out, `golden.json` holds cases that an app replays to check its \
own preprocessing, and docs/bundle.md of EdgeVL describes both to the last rounding.

## Limits

{% if m.labels %}It gives one of {{ m.labels.count }} fixed answers, whatever it is asked. {% endif -%}
{% if m.provenance.data -%}
It knows what it was trained on, {{ m.provenance.data }}, and nothing else. \
{% endif -%}
Numbers above hold for the data named there and for no other.
{%- if "domain.json" in m.files %} `domain.json` tells an app which pictures, words and answers are of \
another kind, and how often an answer is right; `edgevl predict` says so.
{%- endif %}
"""


# What to ask the picture `sample`, by kind of decoding.
_TEXTS = {"classify": ["what color is the car?"], "rank": ["a red car", "a green car"], "box": ["the car"]}


def example_texts(bundle: Path) -> list[str]:
    """Return what `edgevl predict BUNDLE sample` may be asked. Raises as `edgevl.bundle.folder.Bundle.open` does."""
    from edgevl.bundle.folder import Bundle

    return _example_texts(Bundle.open(bundle).manifest)


def _example_texts(manifest: Manifest) -> list[str]:
    if not any(spec.source.kind == "text" for program in manifest.programs for spec in program.inputs):
        return []
    return _TEXTS.get(str(manifest.decoding.get("kind")), _TEXTS["classify"])


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
        m=manifest,
        artifact_bytes=size,
        describe=_describe,
        percent=_percent,
        times=_times(manifest.bench),
        source=_source,
        title=metric_title,
        texts=_example_texts(manifest),
        does=_does(manifest),
        backbone=_backbone(manifest.provenance.model),
        of=lambda program: f" of {program.name}" if len(manifest.programs) > 1 else "",
    )


def write_card(folder: Path, manifest: Manifest) -> None:
    (folder / README).write_text(render_card(manifest), encoding="utf-8", newline="\n")


def _describe(spec) -> str:
    limits = f", {spec.range[0]:g} to {spec.range[1]:g}" if spec.range else ""
    kind = "picture, " if getattr(spec, "kind", "tensor") == "image" else ""
    return f"{kind}{spec.dtype} {list(spec.shape)} ({spec.layout}){limits}"


def _source(source: Any) -> str:
    """Where an input comes from, in words."""
    number = f" number {source.index + 1}" if getattr(source, "index", 0) else ""
    words = {
        "picture": f"the picture{number}",
        "text": f"the text{number}" + (", its mask" if getattr(source, "part", "") == "mask" else ""),
        "value": f"`{getattr(source, 'name', '')}`",
        "state": f"`{getattr(source, 'name', '')}` of the step before",
        "token": "the last token",
        "step": "the number of the step",
    }
    return f"from {words[source.kind]}"


def _does(manifest: Manifest) -> str:
    """What comes out, in a sentence; of a kind of decoding from elsewhere its name."""
    count = manifest.labels.count if manifest.labels else 0
    kind = str(manifest.decoding.get("kind"))
    return {
        "classify": f"It scores {count} answers.",
        "rank": "It says how well texts fit pictures.",
        "generate": "It writes an answer, word by word.",
        "box": "It says where in the picture something is.",
    }.get(kind, f"What comes out is decoded by {kind}.")


def _backbone(model: dict[str, Any] | None) -> str:
    """What a model of our family says of itself."""
    known = [f"{key} {model[key]}" for key in ("width", "depth") if key in model] if model else []
    return ", ".join([str(model["backbone"]), *known]) if model and "backbone" in model else ""


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f} %"
