"""Checkpoints that the processes of a group write and read together, each its own rows.

torch.distributed.checkpoint plans who writes what and who needs which rows of what lies there, also where another
number of processes wrote it. How it lies on the disk is ours: a file in the safetensors format from each process, the
rest as JSON, a manifest with the checksums of all. torch's own files hold pickles, which run whatever code they say.
Between the processes of one run torch's plans do travel as pickles; none is ever read from a file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load as load_divided
from torch.distributed.checkpoint.state_dict_saver import save as save_divided
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from trainkit import store
from trainkit.checkpoint import OF_NAME, Layout, state_text, tensor_at
from trainkit.distributed.group import Group
from trainkit.distributed.sharding import Sharded, rows_here
from trainkit.errors import CheckpointError
from trainkit.files import open_regular
from trainkit.forms import STATE
from trainkit.pieces import SHARDS, Pieces, shard_file
from trainkit.verified import read_outline

_MOST = 1 << 62  # bytes of a file whose length was compared with the manifest


# ---------------------------------------------------------------- writing


def save(
    parent: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    sharded: Sharded,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> Path:
    """Write a checkpoint; every process comes back when it is whole and durable.

    Args:
        parent: the ``checkpoints`` folder, as the first process has it; all must reach it.
        step: updates made.
        tensors: by name, as this process has them.
        state: what JSON can hold; the first process's is written.
        sharded: the model, which knows what are rows.
        before: done by the first process before anything is written; where it fails all processes hear of it.
        after: likewise, when the checkpoint is there.

    Raises:
        OSError: in every process, if the disk refuses one of them; older checkpoints are untouched.
    """
    writer = _Writer(os.fspath(parent), step, state, sharded.group, before, after)
    planner = DefaultSavePlanner(
        flatten_state_dict=False, flatten_sharded_tensors=False, dedup_save_to_lowest_rank=True
    )
    try:
        with sharded.group.together():
            save_divided(sharded.divided(tensors), storage_writer=writer, planner=planner)
    except CheckpointException as error:
        writer.give_up()
        raise _cause(error) from error
    return parent / store.folder_name(step)


@dataclass
class _Writer(StorageWriter):
    """Puts what a process is to write into one file, and makes a checkpoint of all of them."""

    parent: str
    step: int
    state: Mapping[str, Any]
    group: Group
    before: Callable[[], None]
    after: Callable[[], None]
    temporary: str = ""

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin; what is written where was said when this was made."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether torch may choose this writer by itself."""
        return False

    def storage_meta(self) -> StorageMeta | None:
        """Nothing that torch need know."""
        return None

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Make the folder that all write into, in the process that will make a checkpoint of it."""
        if is_coordinator:
            self.before()
            self.temporary = store.begin(self.parent, self.step)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Leave the plan of this process as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tell each process the file that it writes, and check that what are rows are whole ones."""
        for plan in plans:
            for item in plan.items:
                assert item.tensor_data is not None
                chunk, size = item.tensor_data.chunk, item.tensor_data.size
                if any(chunk.offsets[1:]) or chunk.sizes[1:] != size[1:]:
                    raise ValueError(f"{item.index.fqn} is divided by more than its rows")
        names = [os.path.join(self.temporary, shard_file(n + 1, len(plans))) for n in range(len(plans))]
        return [replace(plan, storage_data=name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this process's file; what is told of it is the manifest's entry, and the first row of each tensor."""
        tensors: dict[str, Tensor] = {}
        first: dict[str, int] = {}
        for item in plan.items:
            data = planner.resolve_data(item)
            assert isinstance(data, Tensor)
            assert item.tensor_data is not None
            if item.tensor_data.size.numel() and not item.tensor_data.chunk.sizes.numel():
                continue  # no rows of it are here
            name = item.index.fqn
            tensors[name] = data.detach()
            offset = item.index.offset
            first[name] = offset[0] if offset else 0
        path = plan.storage_data
        if not os.path.isdir(os.path.dirname(path)):
            raise FileNotFoundError(
                2,
                f"process {self.group.rank} does not find the folder: all need the run folder on a disk they share",
                path,
            )
        entry = store.write_file(path, Layout(tensors).parts(tensors))
        told = (os.path.basename(path), entry, first)
        future: Future[list[WriteResult]] = Future()
        future.set_result([WriteResult(MetadataIndex(told[0]), entry["bytes"], told)])
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the state and the manifest, and make a checkpoint of it all."""
        written = [result.storage_data for part in results for result in part]
        known = metadata.state_dict_metadata
        shards: dict[str, Any] = {}
        for file, _, first in written:
            for name, row in first.items():
                held = known[name]
                assert isinstance(held, TensorStorageMetadata)
                if len(held.chunks) > 1:
                    entry = shards.setdefault(name, {"shape": list(held.size), "first": {}})
                    entry["first"][file] = row
        text = state_text({**self.state, SHARDS: shards})
        files = {file: entry for file, entry, _ in written}
        files[STATE] = store.write_file(os.path.join(self.temporary, STATE), [text])
        store.commit(self.temporary, self.step, files)
        self.after()

    def give_up(self) -> None:
        """Remove what was begun."""
        if self.temporary:
            store.remove(self.temporary)


def _cause(error: Any) -> BaseException:
    """What a process failed with, as an error of this one: the disk's if it was one, else the first."""
    failures = [failure[0] for _, failure in sorted(error.failures.items())]
    of_disk = [failure for failure in failures if isinstance(failure, OSError)]
    found: BaseException = next(iter([*of_disk, *failures]), error)
    return found


# ---------------------------------------------------------------- reading


class Divided(Mapping[str, Tensor]):
    """The tensors of a checkpoint, which lie on the disk until they are asked for.

    Args:
        folder: the checkpoint, every file of which was compared with its manifest.
        pieces: where each tensor lies.
    """

    def __init__(self, folder: Path, pieces: Mapping[str, Pieces]) -> None:
        self.folder = folder
        self.pieces = pieces
        self._files: dict[str, memoryview] = {}

    def __getitem__(self, name: str) -> Tensor:
        """A whole tensor."""
        pieces = self.pieces[name]
        return (
            torch.cat([self.rows(pieces, number) for number in range(len(pieces.parts))])
            if pieces.shape
            else (self.rows(pieces, 0).clone())
        )

    def __iter__(self) -> Any:
        """The names."""
        return iter(self.pieces)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pieces)

    def rows(self, pieces: Pieces, number: int) -> Tensor:
        """One piece of a tensor, as it lies on the disk: not to be changed."""
        part = pieces.parts[number]
        return tensor_at(self._bytes(part.file), pieces.kind, part.shape, part.begin)

    def _bytes(self, file: str) -> memoryview:
        if file not in self._files:
            handle, length = open_regular(self.folder / file, _MOST)
            try:
                self._files[file] = memoryview(mmap.mmap(handle, length, access=mmap.ACCESS_COPY))
            finally:
                os.close(handle)
        return self._files[file]

    def of_this_process(self, sharded: Sharded) -> dict[str, Tensor]:
        """What this process needs of them: rows of what is divided, all of the rest. Collective.

        Raises:
            CheckpointError: in every process, if they do not fit the model.
        """
        shapes = {name: (pieces.shape, OF_NAME[pieces.kind]) for name, pieces in self.pieces.items()}
        room = sharded.room(shapes)
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        try:
            with sharded.group.together():
                load_divided(room, storage_reader=_Reader(self), planner=planner)
        except CheckpointException as error:
            cause = _cause(error)
            raise CheckpointError(f"{self.folder}: {cause}") from error
        return {name: rows_here(tensor) for name, tensor in room.items()}


def find(folder: Path, group: Group) -> tuple[Divided, dict[str, Any]]:
    """Look at a checkpoint together: each file is compared with the manifest by one process.

    Raises:
        CheckpointError: in every process, with what the first one that found something wrong says.
    """
    said, found = "", None
    try:
        found = read_outline(folder, lambda number: number % group.size == group.rank)
    except CheckpointError as error:
        said = str(error)
    if wrong := [text for text in group.all_of(said) if text]:
        raise CheckpointError(wrong[0])
    assert found is not None
    tensors, state = found
    state.pop(SHARDS, None)
    return Divided(folder, tensors), state


class _Reader(StorageReader):
    """Gives torch the rows that it plans to read."""

    def __init__(self, tensors: Divided) -> None:
        self.tensors = tensors

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin; what is read was said when this was made."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether torch may choose this reader by itself."""
        return False

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What torch calls the form of a checkpoint."""
        known: dict[str, Any] = {}
        for name, pieces in self.tensors.pieces.items():
            chunks = [
                ChunkStorageMetadata(
                    torch.Size([part.first, *(0 for _ in part.shape[1:])] if part.shape else []), torch.Size(part.shape)
                )
                for part in pieces.parts
            ]
            properties = TensorProperties(dtype=OF_NAME[pieces.kind])
            known[name] = TensorStorageMetadata(properties, torch.Size(pieces.shape), chunks)
        return Metadata(known)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing is to be set up."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Leave the plan of this process as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Leave the plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy what is planned to where it belongs."""
        for item in plan.items:
            pieces = self.tensors.pieces[item.storage_index.fqn]
            first = item.storage_index.offset[0] if item.storage_index.offset else 0
            number = next(n for n, part in enumerate(pieces.parts) if part.first == first)
            source = self.tensors.rows(pieces, number)
            for dim, (begin, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                source = source.narrow(dim, begin, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(source)
            planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future
