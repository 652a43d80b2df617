"""The errors that the model's code raises: what was expected, what was found, what to do next."""


class XalError(Exception):
    """Anything this project raises on purpose."""


class InputError(XalError):
    """A file, an option or a directory given by the user is wrong; the message is one line that says how to mend it."""


class TaskError(InputError):
    """A task file that cannot be used."""


class CheckpointError(InputError):
    """A model directory that is missing, incomplete, damaged or not one at all."""


class ItemError(XalError):
    """One text that cannot be answered; its neighbours can.

    code: a short stable word for programs, e.g. ``empty_text``; message: a sentence for people, without the text.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
