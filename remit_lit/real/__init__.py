"""Real inputs from the Python registry: a 135M-parameter model and benchmark text, and what experiments need of them.

Nothing else in `remit_lit` imports this package; `python -m remit_lit.real` runs it.
"""
