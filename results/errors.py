"""The one exception of this room."""


class ResultsError(ValueError):
    """A record, a file or a request for a table that cannot serve.

    Its message is all that the user sees. It names the file or the field, says what was expected and what to do.
    """
