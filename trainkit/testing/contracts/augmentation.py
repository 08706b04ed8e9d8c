"""What every augmentation keeps."""

from __future__ import annotations

import pickle
import random

import numpy
import torch

from trainkit.component import Component
from trainkit.dataset import Batch
from trainkit.protocols import Augmentation
from trainkit.testing.build import made
from trainkit.testing.samples import Case, OnData, drawing, on_any_device, refuses_in_words

SAMPLES = 12


class AugmentationContract(OnData):
    """An augmentation changes a training batch; every random choice is a function of the draw that it is given."""

    kind = "augmentation"

    def test_refuses_other_data_in_words(self, component: Component) -> None:
        """Data that it is not for is refused with a message: by DataError, or where the first samples come."""
        refuses_in_words(component)

    def test_keeps_the_form_of_a_batch(self, component: Component, cases: list[Case]) -> None:
        """Inputs keep their shape, samples their numbers; targets stay of their kind, or become probabilities."""
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            found = augmentation(batch, drawing(batch.index))
            what = f"augmentation '{component.name}' on {case}"
            assert isinstance(found, Batch), f"{what}: gives {type(found).__name__}; give a trainkit.Batch"
            assert found.inputs.shape == batch.inputs.shape, (
                f"{what}: inputs {tuple(batch.inputs.shape)} become {tuple(found.inputs.shape)}; the shape must stay"
            )
            assert found.inputs.isfinite().all(), f"{what}: the inputs are no longer finite"
            assert torch.equal(found.index, batch.index), f"{what}: changes batch.index; hand it on as it is"
            if found.targets.shape == batch.targets.shape and found.targets.dtype == batch.targets.dtype:
                continue
            wanted = (SAMPLES, case.spec.outputs)
            mixed = case.spec.task == "classification" and found.targets.shape == wanted
            assert mixed, (
                f"{what}: targets {tuple(batch.targets.shape)} {batch.targets.dtype} become "
                f"{tuple(found.targets.shape)} {found.targets.dtype}; classes may become probabilities (batch, classes)"
            )
            sums = found.targets.sum(1)
            assert bool((found.targets >= 0).all()), f"{what}: a target is below 0; classes may become probabilities"
            assert torch.allclose(sums, torch.ones(SAMPLES), atol=1e-5), (
                f"{what}: the targets of a sample make {sums[0]:.6g}; they are probabilities and must make 1"
            )

    def test_is_a_function_of_the_draw(self, component: Component, cases: list[Case]) -> None:
        """The same batch and draw give the same, whatever was drawn before; no other random numbers are used."""
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            found = []
            for seed in (1, 2):
                _seed(seed)
                before = _states()
                found.append(augmentation(batch, drawing(batch.index)))
                augmentation(case.batch(SAMPLES, 5), drawing(batch.index, seed=seed))
                untouched = before == _states()
                assert untouched, (
                    f"augmentation '{component.name}' on {case}: draws from a random generator of the process; take "
                    'every random number from draw("name", count)'
                )
            same = _same(*found)
            assert same, (
                f"augmentation '{component.name}' on {case}: the same batch and draw give another result; keep nothing "
                "from one batch to the next"
            )

    def test_the_order_in_a_batch_does_not_matter(self, component: Component, cases: list[Case]) -> None:
        """A sample becomes the same wherever in the batch it stands."""
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
            moved = Batch(*(part[order] for part in batch))
            found = augmentation(moved, drawing(moved.index))
            expected = Batch(*(part[order] for part in augmentation(batch, drawing(batch.index))))
            same = _same(found, expected)
            assert same, (
                f"augmentation '{component.name}' on {case}: a sample becomes another at another place; "
                "choose by the numbers of draw, not by position"
            )

    def test_a_part_of_a_batch_becomes_the_same(self, component: Component, cases: list[Case]) -> None:
        """Each of several processes has a part of the batch, which becomes the same; who cannot declares `mixes`."""
        if component.capabilities.get("mixes"):
            return
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            whole = augmentation(batch, drawing(batch.index))
            for first, end in ((0, 5), (5, SAMPLES), (SAMPLES - 1, SAMPLES)):
                part = Batch(*(each[first:end] for each in batch))
                found = augmentation(part, drawing(part.index))
                expected = Batch(*(each[first:end] for each in whole))
                same = _same(found, expected)
                assert same, (
                    f"augmentation '{component.name}' on {case}: samples become others where only {end - first} of "
                    f"{SAMPLES} are there, as in one of several processes; look at each sample by itself, or declare "
                    'capabilities={"mixes": True}'
                )

    def test_leaves_the_given_batch_alone(self, component: Component, cases: list[Case]) -> None:
        """It makes a new batch: the given one may be the stored data, or that of other lanes."""
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            before = Batch(*(part.clone() for part in batch))
            augmentation(batch, drawing(batch.index))
            same = _same(batch, before)
            assert same, (
                f"augmentation '{component.name}' on {case}: changes the given batch in place; work on a copy (clone)"
            )

    def test_can_be_sent_to_workers(self, component: Component, cases: list[Case]) -> None:
        """It survives pickling, as streamed loading sends it to worker processes."""
        for case, augmentation in built(component, cases):
            batch = case.batch(SAMPLES)
            try:
                sent = pickle.loads(pickle.dumps(augmentation))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise AssertionError(
                    f"augmentation '{component.name}': cannot be pickled: {error}; make it an object of a class at the "
                    "top of its module, no function within a function"
                ) from error
            found, expected = (one(batch, drawing(batch.index)) for one in (sent, augmentation))
            same = _same(found, expected)
            assert same, f"augmentation '{component.name}' on {case}: pickled it does something else"

    def test_runs_on_any_device_without_waiting(self, component: Component, cases: list[Case]) -> None:
        """It works where the batch is, and never waits for a value."""
        for case, augmentation in built(component, cases):
            batch = Batch(*(part.to("meta") for part in case.batch(SAMPLES)))
            with on_any_device(f"augmentation '{component.name}' on {case}"):
                found = augmentation(batch, drawing(batch.index))
            strayed = [part.device for part in found if part.device.type != "meta"]
            assert not strayed, f"augmentation '{component.name}' on {case}: gives tensors on {strayed[0]}"


def built(component: Component, cases: list[Case]) -> list[tuple[Case, Augmentation]]:
    """The augmentation for each kind of data."""
    return [(case, made(component, data_spec=case.spec)) for case in cases]


def _same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)


def _states() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state())
