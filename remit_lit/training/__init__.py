"""Mid-training: the module, its objective and data, the engines that run it, and its callbacks."""
