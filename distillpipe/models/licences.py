"""Licences of teachers, and whether they allow training on the teacher's output.

The table summarises the terms as of the date in `CHECKED`, in our words. It is not legal advice, and terms change.
The name of a licence is its tag on the hub (`mit`, `llama3.1`), else a name for the provider's terms.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from distillpipe.base.progress import say
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.models.lookup import AnyModel, Model

CHECKED = "2026-11-21"
TITLE_CHARACTERS = 80  # at most, of the first line of a LICENSE file
READ_BYTES = 1 << 20  # at most, of a model card or a LICENSE file
_HEADER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_FIELD = r"""^{}:[ \t]*(?:\n[ \t]*-[ \t]*)?["']?([\w.+ -]+)"""


class Terms(NamedTuple):
    """What a licence says about training on a model's output."""

    licence: str
    models: str
    "regular expression for the names of models on servers"
    names: str
    "regular expression for the names of the licence"
    training: Literal["allowed", "restricted", "forbidden"]
    says: str
    source: str


TERMS = (
    Terms(
        "openai-terms", r"\b(gpt-(?!oss)|chatgpt|o[134](-|$))", r"^openai", "forbidden",
        "no models that compete with OpenAI may be developed with its outputs",
        "https://openai.com/policies/row-terms-of-use/",
    ),
    Terms(
        "anthropic-commercial-terms", r"\bclaude\b", r"^anthropic", "forbidden",
        "no competing models may be trained with the service",
        "https://www.anthropic.com/legal/commercial-terms",
    ),
    Terms(
        "gemini-api-terms", r"\bgemini\b", r"^gemini", "forbidden",
        "no models that compete with the Gemini API may be developed with it",
        "https://ai.google.dev/gemini-api/terms",
    ),
    Terms(
        "xai-enterprise-terms", r"\bgrok\b", r"^xai", "forbidden",
        "outputs may not serve to develop models that compete with xAI, nor be distilled",
        "https://x.ai/legal/terms-of-service-enterprise",
    ),
    Terms(
        "llama3.1", r"\bllama[-_ ]?(3[.p-]?[1-4]|4)", r"\bllama[-_ ]?(3\.[1-4]|4)", "restricted",
        "a model trained on outputs needs a name that begins with Llama, and a note 'Built with Llama', "
        "when it is passed on",
        "https://www.llama.com/llama3_1/license/",
    ),
    Terms(
        "llama3", r"\bllama[-_ ]?[23]", r"\bllama[-_ ]?[23]", "forbidden",
        "outputs may not improve any language model but Llama",
        "https://www.llama.com/llama3/license/",
    ),
    Terms(
        "qwen", r"\bqwen2\.5-72b", r"^qwen(?![- ]?research)", "restricted",
        "a model trained on outputs has to say 'Built with Qwen' or 'Improved using Qwen' when it is "
        "passed on",
        "https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
    ),
    Terms(
        "qwen-research", r"\bqwen2\.5-3b", r"^qwen[- ]?research", "restricted",
        "not for commercial use",
        "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    ),
    Terms(
        "mistral-terms", r"\b(mistral|magistral)-(medium|large)", r"^mistral", "restricted",
        "outputs may not serve to find out how the models are made",
        "https://legal.mistral.ai/terms",
    ),
    Terms(
        "mit", r"\bdeepseek-(r1|reasoner|chat|v3\.\d)", r"^mit\b", "allowed",
        "distillation is allowed by name",
        "https://huggingface.co/deepseek-ai/DeepSeek-R1",
    ),
    Terms(
        "apache-2.0", r"\b(qwq|qwen3-\d|qwen2\.5-\d|gpt-oss|magistral-small)", r"^apache", "allowed",
        "nothing stands in the way",
        "https://www.apache.org/licenses/LICENSE-2.0",
    ),
)  # fmt: skip


def of_teacher(model: AnyModel, given: str | None) -> tuple[str, ...]:
    """The licences of a teacher's output: `given` by the user, else from the model's files or the table.

    A checkpoint of ours has the licences of its teachers. Empty if nothing is known.
    """
    if given is not None:
        return (given,)
    if not isinstance(model, Model):
        terms = next((terms for terms in TERMS if _matches(terms.models, model.name)), None)
        return () if terms is None else (terms.licence,)
    if (model.folder / "manifest.json").is_file():
        return tuple(manifests.read(model.folder).licences)
    for folder in dict.fromkeys((model.folder, model.weights_folder)):
        if (licence := _of_card(folder) or _of_file(folder)) is not None:
            return (licence,)
    return ()


def of_inputs(references: Iterable[str]) -> tuple[str, ...]:
    """The licences in the manifests of a stage's inputs, each once."""
    datasets = (name for name in references if versions.plain_file(name) is None)
    folders = [versions.resolve(name) for name in datasets]
    licences = (licence for folder in folders for licence in manifests.read(folder).licences)
    return tuple(dict.fromkeys(licences))


def warn(licences: Sequence[str]) -> None:
    """Print a warning for licences that forbid training on the output, a note for those that restrict it."""
    for licence in licences:
        terms = next((terms for terms in TERMS if _matches(terms.names, licence)), None)
        if terms is not None and terms.training != "allowed":
            kind = "warning" if terms.training == "forbidden" else "note"
            say(
                f"{kind}: licence {licence}: {terms.says} ({terms.source}, as of {CHECKED}; "
                "generate --teacher-licence states your own licence)"
            )


def _matches(pattern: str, name: str) -> bool:
    return re.search(pattern, name, re.IGNORECASE) is not None


def _of_card(folder: Path) -> str | None:
    """The licence in the header of a model card: `license_name` if it is there, else `license`."""
    path = folder / "README.md"
    header = _HEADER.search(_beginning(path)) if path.is_file() else None
    if header is None:
        return None
    fields = (
        re.search(_FIELD.format(name), header[1], re.MULTILINE)
        for name in ("license_name", "license")
    )
    return next((match[1].strip() for match in fields if match is not None), None)


def _of_file(folder: Path) -> str | None:
    """The first line with text of a LICENSE file."""
    for path in filter(Path.is_file, sorted(folder.glob("LICENSE*"))):
        for line in _beginning(path).splitlines():
            if line.strip():
                return line.strip()[:TITLE_CHARACTERS]
    return None


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(READ_BYTES).decode("utf-8", "replace")
