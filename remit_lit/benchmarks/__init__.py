"""Benchmarks: their tasks, where their items come from, and how an answer is judged."""
