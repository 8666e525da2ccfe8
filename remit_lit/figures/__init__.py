"""The paper's figures by command: drawn from the runs of tables, with what ours says of each finding."""
