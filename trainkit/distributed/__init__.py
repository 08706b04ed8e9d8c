"""One training in several processes: who they are, what each takes of a batch, and how they agree.

Each process is one rank of a group. All build the same run from the same recipe, each computes its share of every
batch, gradients are summed, and every rank makes the same update: what ranks hold is the same bit for bit.
"""

from trainkit.distributed.group import ONE, Group, PeerLost
from trainkit.distributed.share import WHOLE, Share

__all__ = ["ONE", "WHOLE", "Group", "PeerLost", "Share"]
