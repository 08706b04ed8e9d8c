"""Feeding data: the order of an epoch, batches from memory or from worker processes, splits."""

from trainkit.feed.folds import cut_anew
from trainkit.feed.make import make_feed
from trainkit.feed.splits import fingerprint, split_by_fraction, standardise

__all__ = ["cut_anew", "fingerprint", "make_feed", "split_by_fraction", "standardise"]
