"""Fetching published archives: verified by checksum, continued where it broke off, never fetched twice."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainkit import DataError, MachineError

Progress = Callable[[int, int, str], None]
_BLOCK = 1 << 18
# Seconds without a byte.
_TIMEOUT_S = 30.0
_TRIES = 3


@dataclass(frozen=True)
class Archive:
    """A published file.

    Args:
        name: file name in the cache.
        urls: where it is published, tried in this order.
        md5: its published checksum: against accidents, MD5 serves.
    """

    name: str
    urls: Sequence[str]
    md5: str


def fetch(archive: Archive, folder: Path, progress: Progress) -> Path:
    """Return the verified file in ``folder``, downloading what is missing of it.

    Raises:
        MachineError: if it can be had from nowhere; the message says where to put it by hand.
        DataError: if what was downloaded, or put there by hand, is not the published file.
    """
    path = folder / archive.name
    if path.exists():
        if checksum(path) == archive.md5:
            return path
        raise DataError(
            f"{path} is not the published file: its MD5 is {checksum(path)}, published is {archive.md5}; "
            "delete it and run again to download it anew"
        )
    partial = folder / f"{archive.name}.part"
    troubles = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in archive.urls:
            for attempt in range(_TRIES):
                if attempt:
                    time.sleep(0.2 * attempt)
                continued = partial.exists()
                try:
                    _download(url, partial, archive.name, progress)
                except (
                    urllib.error.URLError,
                    http.client.HTTPException,
                    TimeoutError,
                    ConnectionError,
                    ssl.SSLError,
                ) as error:
                    troubles.append(f"{url}: {getattr(error, 'reason', None) or error}")
                    continue
                if checksum(partial) == archive.md5:
                    os.replace(partial, path)
                    return path
                # Whatever it is, it must not be continued.
                found = checksum(partial)
                partial.unlink()
                troubles.append(f"{url}: wrong checksum {found}")
                if not continued:  # the server has another file; what was continued deserves a fresh start
                    break
    except OSError as error:
        raise MachineError(f"cannot write {partial}: {error}; set TRAINKIT_CACHE to another folder") from error
    tried = "\n".join(f"  {trouble}" for trouble in dict.fromkeys(troubles))
    if troubles and all("wrong checksum" in trouble for trouble in troubles):
        raise DataError(
            f"{archive.name} was downloaded but is not the published file (MD5 {archive.md5}):\n{tried}\n"
            f"  get it from elsewhere and put it at {path}"
        )
    raise MachineError(
        f"cannot download {archive.name}:\n{tried}\n"
        f"  without a network: download it elsewhere and put it at {path}\n"
        "  (TRAINKIT_CACHE sets another folder)"
    )


def checksum(path: Path) -> str:
    """MD5 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, partial: Path, name: str, progress: Progress) -> None:
    """Download to ``partial``, from where an earlier try ended if the server can."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "trainkit"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing follows: what is there is whole, or wrong, as the checksum will tell
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else 0
        with partial.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                have += len(block)
                progress(have, total, f"downloading {name}")
        if total and have < total:
            raise ConnectionError(f"the connection ended after {have} of {total} bytes")
