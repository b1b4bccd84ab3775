"""What a person did wrong, said so that they can mend it."""


class UserError(Exception):
    """A mistake in the input or the parameters.

    The message names the file, row, column or key, the value found, what is allowed and what to do.
    Stages print it without a traceback and stop.
    """
