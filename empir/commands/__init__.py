"""The command line: flags, commands, and how a process ends."""
