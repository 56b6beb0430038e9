"""Hooks of MkDocs (mkdocs.yml): README and changelog are pages of the site, and links lead there or become plain text.

The pages are written to be read as files of the project. Here a link to a page or picture leads to it in the site, and a link to
another file keeps its text alone. A link to what is not there stays as it is, so that a strict build fails. A drawing in
Mermaid, which the forge draws, is a picture of the UI here.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
ADDED = {PROJECT / "README.md": "index.md", PROJECT / "CHANGELOG.md": "changelog.md"}
# The site loads no script that would draw it.
_DRAWING = re.compile(r"```mermaid\n.*?```", re.DOTALL)
_PICTURE = "![The assets: views, exports and feeds by day, their deliveries, and readiness](images/graph-groups.png)"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for path, uri in ADDED.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links of the project into links of the site."""
    here = page.file.src_uri
    source = next((path for path, uri in ADDED.items() if uri == here), DOCS / here)

    def linked(match: re.Match[str]) -> str:
        text, target, heading = match[1], match[2], match[3] or ""
        path = Path(os.path.normpath(source.parent / target))
        if "://" in target or not path.exists():
            return match[0]
        if path.is_dir() and (path / "README.md").exists():
            path /= "README.md"
        if path in ADDED:
            uri = ADDED[path]
        elif path.suffix in {".md", ".png"} and path.is_relative_to(DOCS):
            uri = path.relative_to(DOCS).as_posix()
        else:
            return text
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(here))}{heading})"

    return _DRAWING.sub(_PICTURE, _LINK.sub(linked, markdown))
