"""The real-input study: a degraded SmolLM2-135M is mid-trained against the original on real MATH text.

Nothing else in `remit_lit` imports this package; `python -m remit_lit.real` runs it.
"""
