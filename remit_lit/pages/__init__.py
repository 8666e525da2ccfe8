"""HTML pages that are whole in one file and open from disk: the shell, colours and plots that all of them share."""
