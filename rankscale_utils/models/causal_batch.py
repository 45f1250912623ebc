"""A flat batch of causal sequences, in which those that begin alike share what they begin with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.machine.transfer import send


class CausalGroup(NamedTuple):
    """Sequences that stand together, each of `own` tokens behind `shared` ones that stand elsewhere."""

    sequences: int
    shared: int
    own: int


@dataclass(frozen=True)
class CausalBatch:
    """How the sequences of a padded batch stand in a flat one: no padding, and every shared beginning once.

    groups: those without shared tokens first, beginnings among them. taken: (tokens,) places of the flat batch's tokens
    in the padded one, row after row; positions: (tokens,) of tokens in their sequences; keys: places in the flat batch
    of all that is read in the groups with shared tokens, sequence after sequence; last: (sequences,) the place of the
    token that is read of every sequence, in the padded batch's order.
    """

    groups: tuple[CausalGroup, ...]
    taken: Tensor
    positions: Tensor
    keys: Tensor
    last: Tensor

    @classmethod
    def of(cls, ids: np.ndarray, lengths: np.ndarray, shared: np.ndarray, read: np.ndarray) -> CausalBatch:
        """Return the flat batch of ids (sequences, width), padded on the right.

        lengths, shared, read: (sequences,), how many tokens there are, how many of the first ones others may share, and
        how many there are up to the token that is read.
        """
        beginnings, of_row = _beginnings(ids, np.minimum(shared, lengths))
        count = len(beginnings)
        shared = np.where(of_row < 0, 0, shared)
        # Parts: the shared beginnings, then what every row has of its own; each where in its row it begins and ends.
        row = np.concatenate([beginnings, np.arange(len(lengths))])
        begin = np.concatenate([np.zeros(count, np.int64), shared])
        end = np.concatenate([shared[beginnings], lengths])
        own = end - begin
        order = np.lexsort((own, begin))
        starts = np.empty_like(own)  # where in the flat batch every part begins
        starts[order] = np.cumsum(own[order]) - own[order]
        groups = _groups(begin[order], own[order])
        inside = _counted(own[order])
        taken = np.repeat((row * ids.shape[1] + begin)[order], own[order]) + inside
        positions = np.repeat(begin[order], own[order]) + inside
        of_part = np.concatenate([np.full(count, -1), of_row])
        behind = order[(begin[order] > 0) & (own[order] > 0)]
        keys = [_spans(starts[[of_part[part], part]], (begin[part], own[part])) for part in behind]
        place = read - 1
        within = place < shared
        home = np.where(within, of_row, count + np.arange(len(lengths)))
        last = starts[home] + np.where(within, place, place - shared)
        arrays = (taken, positions, np.concatenate([np.zeros(0, np.int64), *keys]), last)
        return cls(groups, *map(torch.from_numpy, arrays))

    def to(self, device: torch.device) -> CausalBatch:
        """Return the same on a device."""
        return CausalBatch(
            self.groups, *(send(part, device) for part in (self.taken, self.positions, self.keys, self.last))
        )

    def flat(self, padded: Tensor) -> Tensor:
        """Return the tokens of a padded batch (sequences, width) as a flat one: (1, tokens)."""
        return padded.flatten()[self.taken][None]

    @cached_property
    def alone(self) -> int:
        """How many tokens, which stand first, share nothing that comes before them."""
        return sum(group.sequences * group.own for group in self.groups if not group.shared)

    def read(self, flat: Tensor) -> Tensor:
        """Return what queries attend to, group after group, of keys or values (tokens, heads, size)."""
        return torch.cat([flat[: self.alone], flat[self.keys]]) if len(self.keys) else flat


def _beginnings(ids: np.ndarray, shared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a row of every beginning that two rows or more have, and each row's beginning among them, -1 for none."""
    tokens = np.where(np.arange(shared.max()) < shared[:, None], ids[:, : shared.max()], -1)
    _, first, of_row, rows = np.unique(tokens, axis=0, return_index=True, return_inverse=True, return_counts=True)
    several = (rows > 1) & (shared[first] > 0)
    place = np.where(several, np.cumsum(several) - 1, -1)
    return first[several], place[of_row.ravel()]


def _groups(begin: np.ndarray, own: np.ndarray) -> tuple[CausalGroup, ...]:
    """Return the groups of parts that stand in this order; empty parts are left out."""
    begin, own = begin[own > 0], own[own > 0]
    ends = np.flatnonzero(np.append((begin[1:] != begin[:-1]) | (own[1:] != own[:-1]), True)) + 1
    columns = (np.diff(ends, prepend=0), begin[ends - 1], own[ends - 1])
    return tuple(starmap(CausalGroup, np.stack(columns, 1).tolist()))


def _spans(starts: np.ndarray, lengths: tuple[int, int]) -> np.ndarray:
    return np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])


def _counted(lengths: np.ndarray) -> np.ndarray:
    """Return 0, 1, … up to each length, one after the other: (sum of lengths,)."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
