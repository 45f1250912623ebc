"""A rung's model: made from a shape or pretrained weights, counted, written as a checkpoint, run over flat batches."""
