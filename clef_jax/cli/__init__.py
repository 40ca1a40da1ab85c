"""The command lines: the installed command, and what the tools of a clone share."""
