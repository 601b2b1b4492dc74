"""A hub of one's own: enough of its protocol for huggingface_hub and datasets to read from it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


CARD = b"""---
configs:
- config_name: all
  data_files: all.jsonl
- config_name: math
  data_files: math.jsonl
---
"""
REPOSITORIES = {
    "open/splits": {
        "README.md": b"# problems\n",
        "data/train.jsonl": lines({"problem": "9+1?", "answer": "10"}),
        "data/test.jsonl": lines(*({"problem": f"{n}+1?", "answer": str(n + 1)} for n in range(5))),
    },
    "open/configs": {
        "README.md": CARD,
        "all.jsonl": lines({"problem": "1+1?", "answer": "2"}),
        "math.jsonl": lines({"problem": "2+1?", "answer": "3"}),
    },
    "open/raw": {
        "README.md": b"# for a script only\n",
        "raw.py": b"raise SystemExit('this script must never run')\n",
        "test.jsonl": lines({"problem": "1+1?", "answer": "2"}),
        "test2.jsonl": lines({"problem": "2+1?", "answer": "3"}),
        "train.jsonl": lines({"problem": "3+1?", "answer": "4"}),
    },
    "open/traces": {
        "README.md": b"# traces\n",
        "train.jsonl": lines(
            {"problem": "1+1?", "answer": "2", "generations": ["<think>a</think>2", "b</think>3"],
             "finish_reasons": ["stop", "length"]},
        ),
    },
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        parts = urlparse(self.path).path.strip("/").split("/")
        files = REPOSITORIES["/".join(parts[2:4])]
        paths = content.get("paths", [])
        self._json([_entry(path, files[path]) for path in paths if path in files])

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        at = 2 if parts[0] == "api" else 1
        name = "/".join(parts[at : at + 2])
        kind, path = parts[at + 2 : at + 3], "/".join(parts[at + 4 :])
        files = REPOSITORIES.get(name)
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif kind in ([], ["revision"]):
            siblings = [{"rfilename": file} for file in files]
            self._json(
                {"id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
            )
        elif kind == ["tree"]:
            self._json(_tree(files, path))
        elif path in files:
            tag = hashlib.sha1(files[path]).hexdigest()
            self._send(200, files[path], {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _tree(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    """What lies directly in a folder."""
    start = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        head, inside, _ = path.removeprefix(start).partition("/")
        if not path.startswith(start):
            continue
        deeper = {"type": "directory", "path": start + head, "oid": "0" * 40}
        found[head] = deeper if inside else _entry(path, content)
    return list(found.values())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`hub("import", "hub:open/traces", ...)`: `distill` in a process whose hub is this one.

    With `online=False` the hub is out of reach, and HF_HUB_OFFLINE is set.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"

    def run(*arguments: object, online: bool = True) -> subprocess.CompletedProcess[str]:
        program = "from distillpipe.cli.app import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "HF_ENDPOINT": address if online else "http://127.0.0.1:9",
                "HF_HUB_OFFLINE": "0" if online else "1",
                "HF_HOME": str(tmp_path / "hf"),
                "no_proxy": "127.0.0.1",
            },
        )

    yield run
    server.shutdown()
    server.server_close()
