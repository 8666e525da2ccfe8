"""What the kit costs, as ratios to plain implementations: ``python -m tests.benchmarks``. Not part of the tests."""
