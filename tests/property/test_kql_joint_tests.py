"""Tests of many values together say what each says of each value."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.kql.indexed import Indexed, Ordered
from pipeline.kql.joint_tests import JointTest
from pipeline.kql.memo import Budget
from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Anything, AsciiEqual, ClockInterval, Interval, Other, comparison
from pipeline.kql.shared_patterns import FieldPatterns
from pipeline.kql.values import (
    BooleanType,
    DateType,
    FloatType,
    IntegerType,
    IpType,
    KeywordType,
    Operand,
    TextType,
    ValueRefused,
)

OPERATORS: tuple[Operator, ...] = ("<", "<=", ">", ">=")
WORDS = ["", "a", "ab", "A", "b c", "a b c", "\u0130", "\u03a3", "\1", "zz top", "9", "10.0"]
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(alphabet="abA \u00e9", max_size=6))
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(["1", "1.5", "-2e0", "1e400", 2**63, -(2**63), 1e18, 0.1, 1.5, True, None]),
)
ADDRESSES = st.sampled_from(
    ["10.0.0.1", "10.0.0.255", "10.1.0.0", "::ffff:10.0.0.1", "::1", "2001:db8::1", "x", 1]
)
NETWORKS = st.sampled_from(["10.0.0.1", "10.0.0.0/24", "10.0.0.1/8", "::/0", "2001:db8::/32"])
DATES = st.sampled_from(
    ["2024", "2024-01", "2024-01-31", "2024-01-31T10:00:00Z", 1706659200000, "no date", "now-1d"]
)
KINDS = {
    "keyword": (KeywordType(), TEXTS, TEXTS),
    "caseless": (KeywordType(caseless=True), TEXTS, TEXTS),
    "text": (TextType(), TEXTS, TEXTS),
    "long": (IntegerType("long", -(2**63), 2**63 - 1), NUMBERS, NUMBERS.map(str)),
    "half": (FloatType("half_float", pack="<e"), NUMBERS, NUMBERS.map(str)),
    "double": (FloatType("double"), NUMBERS, NUMBERS.map(str)),
    "boolean": (BooleanType(), st.sampled_from([True, False, "", "x"]), TEXTS | st.just("true")),
    "ip": (IpType(), ADDRESSES, NETWORKS),
    "date": (DateType(), DATES, DATES.map(str)),
}


def predicates(values, literals):
    """Tests of each kind that a type has, with one of these literals."""

    def one(kind, text, other, operator):
        operand = Operand(text, phrase=kind == "phrase", clock=lambda: 1706745600000)
        match kind:
            case "equal" | "phrase":
                return values.equals(operand)
            case "range":
                return values.compares(operator, operand)
            case "pattern":
                return values.matches((text, other))
            case "ascii" if isinstance(values, KeywordType):
                return AsciiEqual(text.lower())
            case "other":
                return Other(lambda value: value == text)
            case _:
                return Anything()

    kinds = ["equal", "phrase", "range", "range", "pattern", "ascii", "other"] * 3 + ["anything"]

    @st.composite
    def drawn(draw):
        arguments = draw(st.tuples(st.sampled_from(kinds), literals, literals))
        try:
            return one(*arguments, draw(st.sampled_from(OPERATORS)))
        except ValueRefused:
            assume(False)
            raise

    return drawn()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300)
@given(st.data())
def test_many_tests_of_many_values_say_what_each_says_of_each(kind, data) -> None:
    values, raw, literals = KINDS[kind]
    tests = data.draw(st.lists(predicates(values, literals), max_size=4))
    found = Indexed(data.draw(st.lists(raw, max_size=6)), values)
    expected = any(test.fits(value) for test in tests for value in found.values)

    assert expected == JointTest(tests, FieldPatterns())(found, Budget())


bounds = st.one_of(st.none(), st.integers(0, 6))
intervals = st.builds(Interval, bounds, bounds, st.booleans(), st.booleans()).filter(
    lambda interval: (interval.low, interval.high) != (None, None)
)


@given(intervals, st.lists(st.integers(0, 6), min_size=1))
def test_an_interval_meets_values_if_one_lies_in_it(interval, values) -> None:
    expected = any(map(interval.fits, values))

    assert expected == interval.meets(Ordered(values))
    assert expected == ClockInterval(lambda: interval).now().meets(Ordered(values))


@given(intervals, intervals, st.integers(-1, 7))
def test_what_lies_within_two_intervals_lies_in_each(one, other, value) -> None:
    assert (one.fits(value) and other.fits(value)) == one.within(other).fits(value)


@given(st.sampled_from(OPERATORS), st.integers(0, 4), st.integers(0, 4))
def test_a_comparison_is_an_interval(operator, bound, value) -> None:
    expected = {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
    }

    assert expected[operator] == comparison(operator, bound).fits(value)


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
    st.integers(0, 2**128 - 1).map(lambda n: IPv6Address(n).exploded),
    st.lists(st.sampled_from(["0", "1", "0001", "ffff", "", ":", "1.2.3.4", "g"]), max_size=9).map(
        ":".join
    ),
    st.lists(st.sampled_from(["0", "00", "1", "255", "256", "", "1\u0662"]), max_size=5).map(
        ".".join
    ),
    st.text(alphabet="0123456789abcdef:.%/ \0\u0661", max_size=20),
)


@settings(max_examples=2000)
@given(addresses)
@example("::ffff:1.2.3.4")
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1:2:3:4:5:6:7::8")
@example("::1.2.3.4")
@example("1::0:0:0:2")
@example("0:0:1::")
@example("fe80::1%eth0")
@example("fe80::1%")
@example("01.2.3.4")
@example(" 1.2.3.4")
def test_an_address_is_what_python_reads(text: str) -> None:
    before, percent, zone = text.partition("%")
    try:
        address = ip_address(before) if zone or not percent else None
    except ValueError:
        address = None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    mapped = 0xFFFF << 32 if isinstance(address, IPv4Address) else 0

    assert (None if address is None else int(address) + mapped) == IpType().index(text)
    assert (None if address is None else str(address)) == IpType().term(text)
