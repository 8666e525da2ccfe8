"""``estimate``: memory, disk and time of a run before it starts, by the config files of ``fit``, without weights."""
