"""A flat batch: sequences end to end without padding, and the groups of one length among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.machine.transfer import send


class LengthGroup(NamedTuple):
    """Sequences of one length that stand together; their first `prefix` tokens hold what is read."""

    sequences: int
    length: int
    prefix: int


@dataclass(frozen=True)
class Sequences:
    """How the sequences of a padded batch stand in a flat one: the shortest first.

    taken: (tokens,) places of the flat batch's tokens in the padded one, row after row; positions: (tokens,) of tokens
    in their sequences; prefixes: (rows,) places in the flat batch of every group's prefixes; read: (states,) those of
    `prefixes` that are read; counts: (sequences,) how many states are read of each; back: (sequences,) where the padded
    batch's sequences stand.
    """

    groups: tuple[LengthGroup, ...]
    taken: Tensor
    positions: Tensor
    prefixes: Tensor
    read: Tensor
    counts: Tensor
    back: Tensor

    @classmethod
    def of(cls, lengths: np.ndarray, width: int, read: np.ndarray) -> Sequences:
        """Return the sequences of a batch of this width, padded on the right, whose first `read` tokens are read."""
        order = np.lexsort((read, lengths))
        lengths, read = lengths[order], read[order]
        ends = np.flatnonzero(np.append(lengths[1:] != lengths[:-1], True)) + 1
        begins = np.append(0, ends[:-1])
        longest = np.maximum.reduceat(read, begins)
        columns = (ends - begins, lengths[begins], longest)
        groups = tuple(starmap(LengthGroup, np.stack(columns, 1).tolist()))
        prefix = np.repeat(longest, ends - begins)
        positions, inside = _counted(lengths), _counted(prefix)
        begin = np.repeat(np.cumsum(lengths) - lengths, prefix)
        arrays = (
            np.repeat(order * width, lengths) + positions,
            positions,
            begin + inside,
            np.flatnonzero(inside < np.repeat(read, prefix)),
            read,
            np.argsort(order),
        )
        return cls(groups, *map(torch.from_numpy, arrays))

    def to(self, device: torch.device) -> Sequences:
        """Return the same on a device."""
        tensors = (self.taken, self.positions, self.prefixes, self.read, self.counts, self.back)
        return Sequences(self.groups, *(send(tensor, device) for tensor in tensors))

    @cached_property
    def begins(self) -> tuple[Tensor, Tensor]:
        """Where keys and where prefixes of every sequence begin, and the last ones end: each (sequences + 1,) int32."""
        counts, lengths, prefixes = np.array(self.groups).T
        ends = (np.cumsum(np.repeat(each, counts), dtype=np.int32) for each in (lengths, prefixes))
        return tuple(send(torch.from_numpy(np.append(np.int32(0), each)), self.taken.device) for each in ends)

    def flat(self, padded: Tensor) -> Tensor:
        """Return the tokens of a padded batch (sequences, width) as a flat one: (1, tokens)."""
        return padded.flatten()[self.taken][None]

    def chosen(self, states: Tensor) -> Tensor:
        """Return the states that are read, (1, states, hidden), of those of all tokens, (1, tokens, hidden)."""
        return states if len(self.read) == len(self.taken) else states.index_select(1, self.prefixes[self.read])

    def means(self, states: Tensor) -> Tensor:
        """Return the mean of the states read of every sequence, in the padded batch's order: (sequences, hidden)."""
        if len(states) > len(self.counts):
            # `unsafe` spares a check of the lengths, for which the host would wait.
            states = torch.segment_reduce(states, "mean", lengths=self.counts, unsafe=True)
        return states[self.back]


def _counted(lengths: np.ndarray) -> np.ndarray:
    """Return 0, 1, … up to each length, one after the other: (sum of lengths,)."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
