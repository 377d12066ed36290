from __future__ import annotations

from pipeline.rules.history import is_new, term_tuples


def test_a_tuple_never_seen_is_new():
    assert is_new(None, 1_000, 10)


def test_a_tuple_seen_exactly_one_window_ago_is_known():
    assert not is_new(990, 1_000, 10)


def test_a_tuple_seen_before_the_window_is_new_again():
    assert is_new(989, 1_000, 10)


def test_a_late_sighting_of_a_known_tuple_is_not_new():
    assert not is_new(1_000, 1, 10)


def test_tuples_are_the_product_of_the_values_in_the_order_of_the_fields():
    readers = [lambda event, _memo: event["a"], lambda event, _memo: event["b"]]

    tuples = list(term_tuples(readers, {"a": ("x", "y"), "b": (1, 2)}))

    assert tuples == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]


def test_a_field_without_a_value_leaves_no_tuple():
    readers = [lambda event, _memo: event["a"], lambda event, _memo: event["b"]]

    assert list(term_tuples(readers, {"a": ("x",), "b": ()})) == []
