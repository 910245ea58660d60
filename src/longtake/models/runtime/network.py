"""The protocol of a network made of blocks, on which every runtime option works whatever its family."""

from __future__ import annotations

from typing import Protocol, cast

from torch import nn

from longtake.models.runtime.attention import Attend


class BlockNetwork(Protocol):
    """A transformer whose weights are mostly in a list of equal blocks.

    blocks: an nn.ModuleList, or a property that returns one of the network's children. Every pass iterates over
    `blocks` from the first to the last, without indexing, so that the runtime can prepare each block's weights as it
    comes up. attend: the attention function that all blocks use. Everything else (embeddings, output head, norms) stays
    on the device.
    """

    attend: Attend

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks in the order of a pass."""


def replace_blocks(net: nn.Module, blocks: nn.ModuleList) -> None:
    """Put another list in the place of the network's blocks, under the same name."""
    setattr(net, blocks_name(net), blocks)


def blocks_name(net: nn.Module) -> str:
    """Return the name that the network's list of blocks has among its children, such as "transformer_blocks"."""
    blocks = cast(BlockNetwork, net).blocks
    return next(name for name, child in net.named_children() if child is blocks)
