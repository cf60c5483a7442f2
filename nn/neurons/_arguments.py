"""Arguments of methods that are objects, checked when the method is made."""

from __future__ import annotations

__all__ = ["check_flag", "check_loss", "check_part"]


def check_flag(value: object, name: str) -> None:
    """Refuse what is neither True nor False.

    Raises
    ------
    TypeError
        If so.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}; pass True or False")


def check_part(value: object, name: str, kind: type | str, example: str) -> None:
    """Refuse what is no object of a kind, such as the class itself.

    Parameters
    ----------
    value : object
        What was passed.
    name : str
        Of the argument.
    kind : type or str
        A class or protocol; or the name of a method that the object must have.
    example : str
        What to pass instead.

    Raises
    ------
    TypeError
        If so.
    """
    fits = hasattr(value, kind) if isinstance(kind, str) else isinstance(value, kind)
    if isinstance(value, type) or not fits:
        raise TypeError(f"{name} = {value!r}; pass an object such as {example}")


def check_loss(loss: object) -> None:
    """Refuse what cannot be called with an output and a target.

    Raises
    ------
    TypeError
        If so.
    """
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(
            f"loss = {loss!r}; pass a function of (output, target), such as torch.nn.functional.cross_entropy"
        )
