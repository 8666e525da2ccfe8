"""The embedded lab: a synthetic reasoning corpus with a verifier, its tokenizer, and tiny models of one pipeline.

Every feature of the kit runs on it without a download. Its models are ordinary transformers models, and go
through prepare, fit and export as large ones do.
"""
