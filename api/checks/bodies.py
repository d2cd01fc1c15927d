"""Bodies of one document or an array of them, read so that a body that cannot be right costs little.

    reader = Reader(CheckedEvent, "events")
    told, is_array = reader.read(octets, most=1_000)     raises `RequestValidationError`, `Problem` 400 and 413

An array is read up to its first mistake, and no further than `MAX_ITEMS`. Where there is text enough for many members,
they are counted before the models look: each one that is not known would be a mistake of its own, and a million of
them take seconds and a gigabyte to tell.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from api.mistakes import MAX_ERRORS
from api.problems import Problem, ProblemType

MAX_ITEMS = 10_000
"""Of an array: the most that `max_batch` may be."""
MANY_QUOTES = 20_000
"""Of a body. Fewer make 10,000 members at most, which are told to be unknown within 20 ms."""

Model = TypeVar("Model", bound=BaseModel)


class Reader(Generic[Model]):
    """Reads one of a model, or an array of them."""

    def __init__(self, model: type[Model], plural: str) -> None:
        self._plural = plural
        self._members = len(model.model_fields)
        self._one: TypeAdapter[Model] = TypeAdapter(model)
        several: Any = Annotated[list[model], Field(max_length=MAX_ITEMS, fail_fast=True)]  # type: ignore[valid-type]  # made here
        self._some: TypeAdapter[list[Model]] = TypeAdapter(several)

    def read(self, body: bytes, most: int) -> tuple[Sequence[Model], bool]:
        """The documents in a body, and whether they are an array; raises `RequestValidationError`, `Problem`."""
        is_array = body.lstrip()[:1] == b"["
        try:
            told = self._counted(body) if body.count(b'"') > MANY_QUOTES else self._told(body, is_array=is_array)
        except ValidationError as error:
            raise self._mistake(error, is_array=is_array) from None
        except ValueError as error:  # `from_json` has no kind of its own
            raise RequestValidationError([_no_json(error)]) from None
        if len(told) > most:
            raise Problem(413, ProblemType.TOO_LARGE, f"{len(told)} {self._plural}: at most {most} in one request")
        return told, is_array

    def _told(self, body: bytes, *, is_array: bool) -> list[Model]:
        return self._some.validate_json(body) if is_array else [self._one.validate_json(body)]

    def _counted(self, body: bytes) -> list[Model]:
        """The same, where it raises `Problem` for a document with more members than there are.

        Members that have the same name are one by then; the model would see each of them in the text.
        """
        read = from_json(body)
        for each in read if isinstance(read, list) else (read,):
            if isinstance(each, dict) and len(each) > self._members:
                raise _refused(f"{len(each)} members in one document, and there are no more than {self._members}")
        return self._some.validate_python(read) if isinstance(read, list) else [self._one.validate_python(read)]

    def _mistake(self, error: ValidationError, *, is_array: bool) -> Exception:
        count = error.error_count()
        if count > MAX_ERRORS:  # to tell them apart costs 6 us each
            return _refused(f"{count} mistakes")
        found: list[Any] = error.errors(include_url=False, include_input=False, include_context=False)
        if is_array and _is_too_long(found):
            return Problem(413, ProblemType.TOO_LARGE, f"more than {MAX_ITEMS} {self._plural} in one request")
        return RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found])


def _is_too_long(found: Iterable[Any]) -> bool:
    return any(each["type"] == "too_long" and not each["loc"] for each in found)


def _no_json(error: ValueError) -> dict[str, Any]:
    return {"type": "json_invalid", "loc": ("body",), "msg": f"Invalid JSON: {error}"}


def _refused(what: str) -> Problem:
    return Problem(400, ProblemType.BAD_REQUEST, f"body: {what}", errors=[{"where": "body", "what": what}])
