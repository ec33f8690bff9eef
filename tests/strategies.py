"""Hypothesis strategies that follow from the declarations of messages."""

from hypothesis import strategies as st

from net.messages import MessageForm
from sim.schema import Field, FieldType, Value


def field_values(field: Field) -> st.SearchStrategy[Value]:
    """Everything that a field accepts, bounds included."""
    low, high = field.low, field.high
    if field.type is FieldType.INTEGER:
        return st.integers(int(low), int(high))
    if field.type is FieldType.FLOAT:
        return st.floats(float(low), float(high), allow_nan=False)
    if field.type is FieldType.ENTITY:
        return st.integers(0, 2**64 - 1)
    if field.type is FieldType.TEXT:
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=min(int(high), 64))
        return texts.filter(lambda text: low <= len(text.encode()) <= high)
    if field.type is FieldType.BYTES:
        return st.binary(min_size=int(low), max_size=min(int(high), max(int(low), 64)))
    assert field.items is not None
    items = st.lists(field_values(field.items), min_size=int(low), max_size=min(int(high), max(int(low), 8)))
    return items.map(tuple)  # type: ignore[arg-type] # the items of a list are scalars, which its check made sure of


def message_values(form: MessageForm) -> st.SearchStrategy[tuple[Value, ...]]:
    """Everything that a message may carry."""
    return st.tuples(*(field_values(field) for field in form.fields))
