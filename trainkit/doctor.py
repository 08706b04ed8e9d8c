"""``trainkit doctor``: what of this machine a training would trip over, found before it does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from trainkit.catalogue import cache_folder
from trainkit.console import emit_json, emit_table
from trainkit.errors import Exit, MachineError
from trainkit.manager import GROUP, Plugins

_COMPANIONS = ("torchvision", "torchaudio")  # built against one exact torch; a mixed pair fails at import


class Finding(NamedTuple):
    """One line of the examination.

    Args:
        topic: what was looked at.
        state: ``broken`` makes the exit code 3; ``note`` does not.
        text: what was found.
        cure: what to do about it.
    """

    topic: str
    state: Literal["ok", "note", "broken"]
    text: str
    cure: str = ""


def diagnose(plugins: Plugins, as_json: bool) -> Exit:
    """Examine the machine and print what was found."""
    findings = [*_python(), *_torch(), *_companions(), *_plugin_states(plugins), *_extras(), *_stale(), *_folders()]
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        emit_json({"ok": not broken, "findings": [finding._asdict() for finding in findings]})
    else:
        rows = [(f.state, f.topic, f.text + (f"; {f.cure}" if f.cure else "")) for f in findings]
        emit_table(("state", "topic", "found"), rows)
    return Exit.ENVIRONMENT if broken else Exit.DONE


def _python() -> Iterator[Finding]:
    import trainkit

    yield Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    yield Finding("trainkit", "ok", f"{trainkit.__version__} at {Path(trainkit.__file__).parent}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:  # a damaged install raises any of them
        yield Finding("torch", "broken", f"{type(error).__name__}: {error}", "install torch as pytorch.org says")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Finding("torch", "ok", f"{torch.__version__} ({build}), {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            yield Finding("device", "ok", f"cuda:{number} {torch.cuda.get_device_name(number)}, {memory:.0f} GiB")
    else:
        yield Finding("device", "ok", f"cpu, {os.cpu_count()} cores; no CUDA device")


def _companions() -> Iterator[Finding]:
    torch_build = _build("torch")
    for library in _COMPANIONS:
        build = _build(library)
        if build is None:
            continue
        if torch_build is not None and build[1] and torch_build[1] and build[1] != torch_build[1]:
            what = f"{library} {'+'.join(build)} is not built for torch {'+'.join(torch_build)}: it will not import"
            index = f"https://download.pytorch.org/whl/{torch_build[1]}"
            yield Finding(library, "broken", what, f"pip install --force-reinstall {library} --index-url {index}")
        else:
            yield Finding(library, "ok", "+".join(part for part in build if part))


def _build(library: str) -> tuple[str, str] | None:
    """Version and build tag, such as ``("2.13.0", "cpu")``; nothing is imported, since a mixed pair raises there."""
    try:
        version = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
    if "+" not in version:  # some indexes leave the tag out of the metadata; the package's own file has it
        spec = importlib.util.find_spec(library)
        file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
        if file is not None and file.is_file():
            found = re.search(r"__version__\s*=\s*['\"]([^'\"]+)['\"]", file.read_text(encoding="utf-8"))
            version = found[1] if found else version
    number, _, tag = version.partition("+")
    return number, tag


def _plugin_states(plugins: Plugins) -> Iterator[Finding]:
    for plugin in plugins.plugins:
        what = f"{plugin.name} ({plugin.distribution} {plugin.version})"
        if plugin.error:
            cure = f"reinstall or update {plugin.distribution}, or leave it out: --without {plugin.name}"
            yield Finding("plugin", "broken", plugin.error.splitlines()[0], cure)
        else:
            yield Finding("plugin", "ok", f"{what}: {len(plugin.components)} components")
    if not plugins.plugins:
        yield Finding(
            "plugin", "broken", f"no plugin is installed in the entry point group {GROUP}", "pip install trainkit"
        )


def _extras() -> Iterator[Finding]:
    """Optional libraries that are missing, by the extra that brings them."""
    from packaging.requirements import Requirement

    try:
        metadata = importlib.metadata.metadata("trainkit")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "trainkit", "broken", "is run from a folder, not installed: its plugins are not found", "pip install -e ."
        )
        return
    wanted = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    for extra in metadata.get_all("Provides-Extra") or []:
        names = [r for r in wanted if r.marker and r.name != "trainkit" and _only_for(r, extra)]
        missing = [requirement.name for requirement in names if _version(requirement.name) is None]
        cure = f"pip install 'trainkit[{extra}]'" if missing else ""
        text = f"missing: {', '.join(missing)}" if missing else "complete"
        yield Finding(f"extra {extra}", "note" if missing else "ok", text, cure)
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            cure = f"pip install '{requirement.name}{requirement.specifier}'"
            yield Finding(requirement.name, "broken", f"{version or 'missing'}; needed: {requirement.specifier}", cure)


def _only_for(requirement: Any, extra: str) -> bool:
    marker = requirement.marker
    return bool(marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stale() -> Iterator[Finding]:
    """Editable installs whose entry points were edited since: Python goes on reading the old ones."""
    import tomli

    for distribution in importlib.metadata.distributions():
        project = _editable_project(distribution)
        if project is None:
            continue
        try:
            table = tomli.loads((project / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        except (OSError, ValueError):
            continue
        written = {str(k): str(v) for k, v in table.get("entry-points", {}).get(GROUP, {}).items()}
        installed = {entry.name: entry.value for entry in distribution.entry_points if entry.group == GROUP}
        if written != installed:
            changed = sorted({name for name, _ in written.items() ^ installed.items()})
            what = f"pyproject.toml and the installed metadata differ in plugins: {', '.join(changed)}"
            yield Finding("editable install", "broken", f"{distribution.name}: {what}", f"pip install -e {project}")
        elif installed:
            yield Finding("editable install", "ok", f"{distribution.name} at {project}")


def _editable_project(distribution: importlib.metadata.Distribution) -> Path | None:
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    url = urlsplit(str(direct.get("url", "")))
    if not direct.get("dir_info", {}).get("editable") or url.scheme != "file":
        return None
    return Path(url2pathname(unquote(url.path)))


def _folders() -> Iterator[Finding]:
    from trainkit.rundir import runs_root

    places = [("runs folder", runs_root(), "TRAINKIT_RUNS")]
    try:
        places.append(("cache folder", Path(cache_folder()), "TRAINKIT_CACHE"))
    except MachineError as error:
        what, _, cure = str(error).partition("\n")
        yield Finding("cache folder", "broken", what, cure.strip())
    for topic, folder, variable in places:
        nearest = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path())
        if nearest.is_dir() and os.access(nearest, os.W_OK):
            yield Finding(topic, "ok", str(folder))
        else:
            yield Finding(topic, "broken", f"{folder} cannot be written", f"set {variable} to a folder that can be")
