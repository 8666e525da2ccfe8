"""Mid-training of language models with token weighting: ReMiT, RHO-1, MiniPLM, next-token prediction, distillation."""

__version__ = "0.1.0"
