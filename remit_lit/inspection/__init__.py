"""Which tokens a strategy raises and lowers: a page of prepared text, coloured by the weights of training."""
