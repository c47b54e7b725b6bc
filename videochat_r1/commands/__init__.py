"""One module per subcommand of `videochat-r1`: parse arguments, call the library, print."""
