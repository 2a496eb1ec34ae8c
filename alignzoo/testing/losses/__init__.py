"""Whether the losses that TRL computes are those of the papers: value and gradient, on a tiny fixed batch."""
