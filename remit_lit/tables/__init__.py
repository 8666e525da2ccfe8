"""Tables of methods and seeds: which runs a table is made of, what they found, and how it is shown."""
