"""`python -m inrcodec` is the inrcodec command."""

from inrcodec.cli.main import main

if __name__ == "__main__":
    main()
