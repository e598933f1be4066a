"""`python -m empir` is the command `empir`."""

from empir.commands.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]

if __name__ == "__main__":
    main()
