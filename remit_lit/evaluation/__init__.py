"""How good a model is: benchmarks by lm-evaluation-harness, the lab, and what their figures are worth."""
