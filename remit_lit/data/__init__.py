"""From text to packed rows, and from rows to batches."""
