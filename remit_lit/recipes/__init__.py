"""How the lab's models and the real inputs are made: `python -m remit_lit.recipes lab|real`."""
