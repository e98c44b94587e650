"""File bytes on this side of the network: blocks, read-ahead, and later staging."""
