"""Downloads and archives, against a server of our own."""

import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import DataError, MachineError
from trainkit_data import archives, download, published
from trainkit_data.archives import read_cifar, read_idx, read_members
from trainkit_data.download import Archive, fetch

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, cut off after ``server.cuts`` bytes where there are any left."""

    server: Any

    def do_GET(self) -> None:
        """Answer one request, a range of bytes if asked for."""
        first = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.server.asked.append(first)
        content = self.server.content
        if first and first >= len(content):
            self.send_error(416)
            return
        if first and not self.server.ranges:
            first = 0
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        end = first + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[first:end])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.content, served.cuts, served.asked, served.ranges = CONTENT, [], [], True  # type: ignore[attr-defined]
        served.url = f"http://127.0.0.1:{served.server_port}/file"  # type: ignore[attr-defined]
        thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def archive(url: str, content: bytes = CONTENT) -> Archive:
    return Archive("file.bin", [url], hashlib.md5(content).hexdigest())


def ignore(done: int, total: int, text: str) -> None:
    """Show no progress."""


def test_download_is_verified_reported_and_never_repeated(server: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    path = fetch(archive(server.url), tmp_path / "new", lambda *given: seen.append(given))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT), "downloading file.bin")
    assert fetch(archive(server.url), tmp_path / "new", ignore) == path
    assert server.asked == [0]
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_broken_connection_is_continued(server: Any, tmp_path: Path) -> None:
    server.cuts = [300_000, 100_000]
    assert fetch(archive(server.url), tmp_path, ignore).read_bytes() == CONTENT
    assert server.asked == [0, 300_000, 400_000]


def test_next_run_continues(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(server.url), tmp_path, ignore).read_bytes() == CONTENT
    assert server.asked == [1000]


def test_server_without_ranges_starts_again(server: Any, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(server.url), tmp_path, ignore).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"rubbish", CONTENT + b"more"])
def test_wrong_beginning_is_thrown_away(server: Any, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(part)
    assert fetch(archive(server.url), tmp_path, ignore).read_bytes() == CONTENT


def test_whole_part_is_taken_as_it_is(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(archive(server.url), tmp_path, ignore).read_bytes() == CONTENT


def test_wrong_checksum_is_an_error_and_leaves_nothing(server: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the published file"):
        fetch(archive(server.url, b"other"), tmp_path, ignore)
    assert server.asked == [0]
    assert list(tmp_path.iterdir()) == []


def test_file_put_there_by_hand_is_checked(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"is not the published file.*delete it and run again"):
        fetch(archive("http://127.0.0.1:9/file"), tmp_path, ignore)
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert fetch(archive("http://127.0.0.1:9/file"), tmp_path, ignore).read_bytes() == CONTENT


def test_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(MachineError, match=r"cannot download file\.bin") as caught:
        fetch(archive("http://127.0.0.1:9/file"), tmp_path, ignore)
    assert f"put it at {tmp_path / 'file.bin'}" in str(caught.value)
    assert "http://127.0.0.1:9/file: " in str(caught.value)


def test_second_address_is_tried(server: Any, tmp_path: Path) -> None:
    given = Archive("file.bin", ["http://127.0.0.1:9/file", server.url], hashlib.md5(CONTENT).hexdigest())
    assert fetch(given, tmp_path, ignore).read_bytes() == CONTENT


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    return gzip.compress(head + content)


def test_idx_is_read_and_held_to_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx((2, 2, 3), bytes(range(12))))
    assert read_idx(path, (2, 2, 3)).flatten().tolist() == list(range(12))
    with pytest.raises(DataError, match=r"does not hold bytes of shape \(3, 2, 3\)"):
        read_idx(path, (3, 2, 3))
    path.write_bytes(idx((2, 2, 3), bytes(11)))
    with pytest.raises(DataError, match="does not hold"):
        read_idx(path, (2, 2, 3))
    path.write_bytes(idx((2, 2, 3), bytes(12))[:-9])
    with pytest.raises(DataError, match="is damaged"):
        read_idx(path, (2, 2, 3))


def tar(path: Path, members: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        if extra is not None:
            packed.addfile(extra)


def test_archives_are_read_by_name_and_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    tar(path, {"../../evil": b"x", "a/data": b"12", "a/other": b"3"})
    assert read_members(path, {"a/data": 2}) == {"a/data": b"12"}
    with pytest.raises(DataError, match="larger than"):
        read_members(path, {"a/data": 1})
    with pytest.raises(DataError, match="lacks a/missing"):
        read_members(path, {"a/missing": 1})
    link = tarfile.TarInfo("a/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar(path, {}, link)
    with pytest.raises(DataError, match="lacks a/link"):
        read_members(path, {"a/link": 1 << 20})
    tar(path, {"a/data": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="is damaged"):
        read_members(path, {"a/data": 5000})


def test_truncated_cifar_records_are_refused() -> None:
    with pytest.raises(DataError, match="train is truncated: 3000 bytes"):
        read_cifar(bytes(3000), "train", 1)


@pytest.mark.parametrize(("name", "labels", "classes"), [("cifar10", 1, 10), ("cifar100", 2, 100)])
def test_cifar_from_its_archive(
    name: str, labels: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = 5 * 2 * classes, 2 * classes
    monkeypatch.setattr(published, "_CIFAR_TRAIN", train)
    monkeypatch.setattr(published, "_CIFAR_TEST", test)
    rows = torch.randint(0, 256, (train + test, labels + 3072), dtype=torch.uint8)
    rows[:, labels - 1] = torch.arange(train + test) % classes
    words = "\n".join(f"kind{number}" for number in range(classes)).encode() + b"\n\n"
    if name == "cifar10":
        files = [f"cifar-10-batches-bin/data_batch_{n}.bin" for n in range(1, 6)] + [
            "cifar-10-batches-bin/test_batch.bin"
        ]
        members = {file: bytes(part.flatten().tolist()) for file, part in zip(files, rows.chunk(6), strict=True)}
        members["cifar-10-batches-bin/batches.meta.txt"] = words
        path = tmp_path / "downloads" / "cifar-10-binary.tar.gz"
    else:
        members = {
            "cifar-100-binary/train.bin": bytes(rows[:train].flatten().tolist()),
            "cifar-100-binary/test.bin": bytes(rows[train:].flatten().tolist()),
            "cifar-100-binary/fine_label_names.txt": words,
        }
        path = tmp_path / "downloads" / "cifar-100-binary.tar.gz"
    path.parent.mkdir()
    tar(path, members)
    monkeypatch.setattr(download, "checksum", lambda _: published_sum(name))
    data = getattr(published, name)(tmp_path, ignore, val=0.2, standardise=False)
    assert data.spec.sizes == {"train": train * 4 // 5, "val": train // 5, "test": test}
    assert data.spec.classes[:2] == ("kind0", "kind1")
    assert data.spec.outputs == classes
    everything = data.splits["test"].inputs[torch.arange(test)]
    assert torch.equal(everything, rows[train:, labels:].view(-1, 3, 32, 32))
    assert torch.equal(data.splits["test"].targets, rows[train:, labels - 1].long())
    path.unlink()  # decoded once, the archive is not needed again
    again = getattr(published, name)(tmp_path, ignore, val=0.2, standardise=False)
    assert again.spec == data.spec


def published_sum(name: str) -> str:
    return {"cifar10": "c32a1d4ab5d03f1284b67883e8d87530", "cifar100": "03b5dce01913d631647c71ecec9e9cb8"}[name]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_from_its_archives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_MNIST_TRAIN", 40)
    monkeypatch.setattr(published, "_MNIST_TEST", 20)
    monkeypatch.setattr(download, "fetch", lambda given, folder, progress: folder / given.name)
    folder = tmp_path / "downloads" / name
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images = bytes(number % 251 for number in range(count * 784))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx((count, 28, 28), images))
        labels = bytes(number % 10 for number in range(count))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx((count,), labels))
    data = getattr(published, name)(tmp_path, ignore, val=0.25)
    assert data.spec.sizes == {"train": 30, "val": 10, "test": 20}
    assert data.spec.input_shape == (1, 28, 28)
    assert data.spec.class_counts == (3,) * 10
    assert data.splits["test"].inputs[torch.tensor([0])].flatten().tolist() == [n % 251 for n in range(784)]


def test_nothing_here_can_run_code_from_a_file() -> None:
    for module in (archives, download, published):
        assert "pickle" not in vars(module)
