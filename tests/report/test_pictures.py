"""Pictures of plugins: files of the run folder, which its page shows as far as they are pictures and small enough."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy
import pytest

from trainkit import write_picture
from trainkit.page import Pictures, Text, render
from trainkit.page.png import png_size
from trainkit.report.pictures import MOST_BYTES, picture_section

GREY = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4)


def test_a_picture_is_written_shown_and_replaced(tmp_path: Path) -> None:
    file = write_picture(tmp_path, "first_one", GREY)
    assert file == tmp_path / "pictures" / "first_one.png"
    assert png_size(file.read_bytes()) == (4, 3)
    write_picture(tmp_path, "first_one", numpy.zeros((5, 2, 3), numpy.uint8))
    assert png_size(file.read_bytes()) == (2, 5)
    section = picture_section(tmp_path)
    assert section is not None
    [block] = section.blocks
    assert isinstance(block, Pictures)
    assert (block.title, block.size) == ("first one", 2)
    assert base64.b64encode(file.read_bytes()).decode() in render("t", [section])
    assert [name.name for name in file.parent.iterdir()] == ["first_one.png"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a.png", "ä", "a b"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a picture's name has letters, digits"):
        write_picture(tmp_path, name, GREY)
    assert not list(tmp_path.iterdir())


def test_what_is_no_picture_is_named_and_not_shown(tmp_path: Path) -> None:
    good = write_picture(tmp_path, "good", GREY).read_bytes()
    folder = tmp_path / "pictures"
    (folder / "secret.png").write_bytes(b"<script>alert(1)</script>")
    (folder / "vast.png").write_bytes(good[:16] + b"\0\1\0\0\0\1\0\0" + good[24:])
    (folder / "heavy.png").write_bytes(good + b"\0" * MOST_BYTES)
    (tmp_path / "elsewhere.png").write_bytes(good)
    os.symlink(tmp_path / "elsewhere.png", folder / "link.png")
    section = picture_section(tmp_path)
    assert section is not None
    assert [block.title for block in section.blocks if isinstance(block, Pictures)] == ["good"]
    [told] = [block.text for block in section.blocks if isinstance(block, Text)]
    assert "heavy.png, link.png, secret.png, vast.png" in told


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    write_picture(tmp_path / ".", "x", GREY)
    other = tmp_path / "other"
    other.mkdir()
    assert picture_section(other) is None
    os.symlink(tmp_path / "pictures", other / "pictures")
    assert picture_section(other) is None
