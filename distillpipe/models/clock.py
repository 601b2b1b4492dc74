"""One date for all prompts of a version, where the chat template reads the clock.

SmolLM3, Granite, Llama 3.2 and gpt-oss write today's date into each prompt. The prompt is part of a row's key, so a
run that goes on the next day would plan other rows. So a version keeps the moment that its template was first shown,
and a version that takes rows over keeps that of the version that it takes them from.
"""

from datetime import datetime
from pathlib import Path

from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Draft, Header
from distillpipe.models.chat import Chat


def set_clock(chat: Chat | None, draft: Draft) -> None:
    """Let the chat's template show the moment of a draft, which is chosen and stored with the first use."""
    if chat is None or not chat.reads_clock:
        return
    manifest = draft.manifest
    if manifest.template_time is None:
        has_rows = any(path.stat().st_size for path in versions.content_files(draft.path))
        moment = _of_older_run(manifest) if has_rows else None
        if moment is None and draft.takes_over:
            moment = _earlier(draft.out, manifest, but=draft.path)
        manifest.template_time = (moment or chat.now).isoformat()
        draft.save()
    chat.now = datetime.fromisoformat(manifest.template_time)


def set_clock_of_forecast(chat: Chat | None, out: Path, header: Header) -> None:
    """Let the chat's template show the moment that a run with this header would show it."""
    if chat is None or not chat.reads_clock:
        return
    path = versions.find_draft(out, header)
    if path is not None:
        manifest = manifests.read(path)
        moment = _stored(manifest)
    else:
        moment = None if header.fresh else _earlier(out, header)
    chat.now = moment or chat.now


def _earlier(out: Path, version: Manifest | Header, but: Path | None = None) -> datetime | None:
    """The moment of the newest version under `out` by the same stage and models."""
    for path in reversed(versions.finished(out) + versions.partials(out)):
        if path == but or not (path / "manifest.json").is_file():
            continue
        manifest = manifests.read(path)
        if manifest.stage == version.stage and _models(manifest) == _models(version):
            return _stored(manifest)
    return None


def _models(version: Manifest | Header) -> list[str]:
    return [model.identity for model in version.models]


def _stored(manifest: Manifest) -> datetime | None:
    if manifest.template_time is None:
        return _of_older_run(manifest)
    return datetime.fromisoformat(manifest.template_time)


def _of_older_run(manifest: Manifest) -> datetime:
    """The time of day where a version was begun that has no moment stored."""
    return datetime.fromisoformat(manifest.created).astimezone().replace(tzinfo=None)
