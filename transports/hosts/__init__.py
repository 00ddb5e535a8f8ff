"""What turns connections of a listening socket into exchanges for the engine."""
