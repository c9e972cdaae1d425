"""The one exception for a call or an input that is wrong."""


class InputError(ValueError):
    """A mistake of the caller's: a path, a key, a file, a checkpoint that cannot serve.

    Its message is all that the user sees. It names the file or the key, says what was expected and what to do.
    The command line prints it without a traceback and exits with status 2.
    """
