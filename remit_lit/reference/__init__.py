"""Frozen models that the policy is compared with: live, cached as a column of scores, or the policy as it began."""

from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference, Reference

__all__ = ["CachedReference", "InitialPolicy", "LiveReference", "Reference"]
