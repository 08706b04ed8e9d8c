"""What the doctor finds, and what it takes for an illness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit import doctor
from trainkit.errors import MachineError


@pytest.fixture
def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Leave the metadata of an installed package, without the package."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, version: str, **files: str) -> Path:
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        for file, text in files.items():
            (info / file.replace("__", ".")).write_text(text, encoding="utf-8")
        return info

    return install


def states(findings):
    return {(finding.topic, finding.state) for finding in findings}


def test_this_machine_is_well(trainkit):
    outcome = trainkit("doctor", "--json")
    ill = [finding for finding in outcome.json["findings"] if finding["state"] == "broken"]
    assert (outcome.code, ill) == (0, [])
    topics = {finding["topic"] for finding in outcome.json["findings"]}
    assert topics >= {
        "python",
        "trainkit",
        "torch",
        "device",
        "plugin",
        "runs folder",
        "cache folder",
        "extra standard",
    }


def test_a_broken_plugin_is_exit_code_3_with_a_cure(trainkit, distribution):
    distribution("crooked", "import no_such_module_at_all\n")
    outcome = trainkit("doctor")
    assert outcome.code == 3
    line = next(line for line in outcome.out.splitlines() if "crooked" in line)
    assert line.startswith("broken")
    assert "no_such_module_at_all" in line
    assert "--without crooked" in line


@pytest.mark.parametrize("library", ["torchvision", "torchaudio"])
def test_a_library_built_for_another_torch_is_found_without_importing_it(metadata, library):
    metadata(library, "0.28.0+cu130")
    (finding,) = doctor._companions()
    assert (finding.topic, finding.state) == (library, "broken")
    assert "+cu130" in finding.text
    assert "https://download.pytorch.org/whl/cpu" in finding.cure


def test_the_build_is_read_from_the_package_where_metadata_lacks_it(metadata, tmp_path):
    metadata("torchvision", "0.28.0")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    (tmp_path / "torchvision" / "version.py").write_text("__version__ = '0.28.0+cu130'\n", encoding="utf-8")
    assert states(doctor._companions()) == {("torchvision", "broken")}


def test_a_matching_build_is_well(metadata):
    _, tag = doctor._build("torch")
    metadata("torchvision", f"0.28.0+{tag}")
    assert states(doctor._companions()) == {("torchvision", "ok")}


def test_entry_points_edited_after_an_editable_install(metadata, tmp_path):
    project = tmp_path / "with blank"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project.entry-points.trainkit]\nnew = "new_plugin"\n', encoding="utf-8")
    direct = json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}})
    metadata("stale", "1.0", direct_url__json=direct, entry_points__txt="[trainkit]\nold = old_plugin\n")
    finding = next(finding for finding in doctor._stale() if "stale" in finding.text)
    assert finding.state == "broken"
    assert "new, old" in finding.text
    assert finding.cure == f"pip install -e {project}"


def test_folders_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "file" / "runs"))
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "new" / "cache"))
    runs, cache = doctor._folders()
    assert (runs.state, cache.state) == ("broken", "ok")
    assert "TRAINKIT_RUNS" in runs.cure


def test_a_home_that_nobody_knows_is_a_finding(monkeypatch):
    def unknown() -> str:
        raise MachineError("the home folder of this user is not known\n  set HOME")

    monkeypatch.setattr(doctor, "cache_folder", unknown)
    findings = list(doctor._folders())
    assert ("cache folder", "broken") in states(findings)
    assert ("runs folder", "ok") in states(findings)
