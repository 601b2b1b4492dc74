"""Commands in a locale that is not UTF-8, with letters that it lacks everywhere: the same files, and no crash."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROGRAM = "from distillpipe.cli.app import main; main()"
LATIN_1 = "fr_FR.ISO-8859-1"
TRACES = [
    {"problem": f"{number} żółte + 1?", "raw": f"<think>{number}、一</think>\\boxed{{{number + 1}}}",
     "answer": str(number + 1), "modèle": "é", "model": "modèle-ł"}
    for number in range(3)
]  # fmt: skip


class Place(NamedTuple):
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints, on both streams; it has to end with `code`."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode("utf-8")
        assert done.returncode == code, said
        return said


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a terminal of ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    program = shutil.which("localedef")
    if program is None:
        pytest.skip("no localedef to make a locale of ISO-8859-1 with: apt-get install libc-bin")
    command = [program, "-i", "fr_FR", "-f", "ISO-8859-1", str(folder / LATIN_1)]
    if subprocess.run(command, capture_output=True, check=False).returncode > 1:
        pytest.skip("no sources of locales: apt-get install locales")
    return {"LOCPATH": str(folder), "LC_ALL": LATIN_1, "PYTHONUTF8": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder named in letters that the locales lack, with traces of such letters."""
    folder = tmp_path / "données-ł"
    folder.mkdir()
    lines = [json.dumps(row, ensure_ascii=False) for row in TRACES]
    (folder / "tracés-ł.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def in_c(folder: Path) -> Place:
    return _place(folder, C_LOCALE)


@pytest.fixture(params=["C", "ISO-8859-1"])
def place(folder: Path, request: pytest.FixtureRequest) -> Place:
    in_latin_1 = request.param == "ISO-8859-1"
    return _place(folder, request.getfixturevalue("latin_1") if in_latin_1 else C_LOCALE)


def _place(folder: Path, locale: dict[str, str]) -> Place:
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))
    }
    return Place(folder, {**own, **locale, "XDG_CACHE_HOME": str(folder.parent / "cache")})


def test_rows_are_imported_in_a_locale_that_lacks_their_letters(in_c: Place) -> None:
    said = in_c.run("import", "tracés-ł.jsonl", "--teacher-licence", "Łicence ©", "--out", "é/ł")

    manifest = json.loads((in_c.folder / "é/ł/v1/manifest.json").read_bytes())
    assert said.splitlines()[-1].endswith(": é/ł/v1")
    assert "Łicence ©" in (in_c.folder / "é/ł/v1/README.md").read_text(encoding="utf-8")
    assert manifest["options"]["out"] == {"value": "é/ł", "source": "flag"}
    assert manifest["licences"] == ["Łicence ©"]


def test_an_error_is_said_in_a_locale_that_lacks_its_letters(in_c: Place) -> None:
    said = in_c.run("import", "absent-ł.jsonl", "--out", "é", code=2)

    assert said.startswith("error: absent-ł.jsonl does not exist: ")


@pytest.mark.slow
def test_rows_go_through_a_locale_that_lacks_their_letters(place: Place) -> None:
    place.run("import", "tracés-ł.jsonl", "--out", "résultat/ł")
    (place.folder / "recette-ł.toml").write_text('[filter]\nout = "résultat/ż"\n', encoding="utf-8")
    place.run("--recipe", "recette-ł.toml", "filter", "résultat/ł", "--min-reasoning-tokens", "1")
    shown = place.run("show", "résultat/ż", "--sample", "1")
    details = place.run("show", "résultat/ż")
    exported = place.run("export", "résultat/ż", "--format", "openai", "--out", "résultat/ł.jsonl")

    rows = (place.folder / "résultat/ł.jsonl").read_text(encoding="utf-8").splitlines()
    assert "żółte" in shown
    assert "données-ł/résultat/ł" in details
    assert "résultat/ł.jsonl" in exported
    assert len(rows) == len(TRACES)
    assert all("żółte" in row for row in rows)


@pytest.mark.slow
def test_a_version_is_finished_in_a_locale_that_lacks_its_letters(
    in_c: Place, tiny_model: Path
) -> None:
    model = _named(tiny_model, in_c)
    in_c.run("generate", "tracés-ł.jsonl", "--teacher", model, "--max-tokens", "9", "--out", "é")

    card = (in_c.folder / "é/v1/README.md").read_text(encoding="utf-8")
    assert "Licence © 2026 Łukasz" in card


def _named(model: Path, place: Place) -> str:
    """A copy of a model with such letters in its name and its licence."""
    shutil.copytree(model, place.folder / "modèle-ł")
    (place.folder / "modèle-ł/LICENSE").write_text("Licence © 2026 Łukasz\n", encoding="utf-8")
    return "modèle-ł"


@pytest.mark.long
def test_models_are_run_in_a_locale_that_lacks_their_letters(
    place: Place, tiny_model: Path
) -> None:
    _named(tiny_model, place)
    short = ("--max-tokens", "9")
    place.run("generate", "tracés-ł.jsonl", "--teacher", "modèle-ł", *short, "--out", "é/generate")
    place.run(
        "label", "é/generate", "--teacher", "modèle-ł", "--soft-labels", "2", "--out", "é/label"
    )
    for out in ("é/eval-ł", "é/eval-é"):
        scored = place.run(
            "eval", "modèle-ł", "--benchmark", "tracés-ł.jsonl", *short, "--out", out
        )
        assert "modèle-ł" in scored
    place.run("compare", "é/eval-ł", "é/eval-é", "--out", "é/comparaison.md")
    place.run("import", "tracés-ł.jsonl", "--out", "é/import")
    place.run("sft", "é/import", "--student", "modèle-ł", "--method", "full", "--dtype", "fp32",
              "--max-steps", "1", "--out", "é/élève-ł")  # fmt: skip

    card = (place.folder / "é/generate/v1/README.md").read_text(encoding="utf-8")
    metrics = (place.folder / "é/eval-ł/tracés-ł/v1/metrics.md").read_text(encoding="utf-8")
    assert "Licence © 2026 Łukasz" in card
    assert "modèle-ł" in metrics
    assert "eval-é" in (place.folder / "é/comparaison.md").read_text(encoding="utf-8")
    assert "modèle-ł" in (place.folder / "é/élève-ł/v1/README.md").read_text(encoding="utf-8")
