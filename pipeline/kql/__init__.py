"""KQL, Kibana's query language: parse it, print it, compile it to a matcher.

A query means what it means in a Kibana detection rule; see docs/query-language.md.
"""

from __future__ import annotations

from pipeline.errors import UnmappedFieldError
from pipeline.kql.compiler import MemoMatcher, compile_node, compile_query
from pipeline.kql.exact import ExactClause, exact_clauses
from pipeline.kql.explain import Explanation, explain
from pipeline.kql.field_names import field_names, negated_field_names
from pipeline.kql.field_table import FieldTable, ReadTerms
from pipeline.kql.field_type import FieldType
from pipeline.kql.memo import Budget, Memo
from pipeline.kql.needles import Clause, Needle, required_clauses
from pipeline.kql.nodes import Node
from pipeline.kql.parser import parse
from pipeline.kql.printer import format_query
from pipeline.kql.shared_patterns import SharedPatterns
from pipeline.kql.text_tests import TextTest, max_steps, text_test

__all__ = [
    "Budget",
    "Clause",
    "ExactClause",
    "Explanation",
    "FieldTable",
    "FieldType",
    "Memo",
    "MemoMatcher",
    "Needle",
    "Node",
    "ReadTerms",
    "SharedPatterns",
    "TextTest",
    "UnmappedFieldError",
    "compile_node",
    "compile_query",
    "exact_clauses",
    "explain",
    "field_names",
    "format_query",
    "max_steps",
    "negated_field_names",
    "parse",
    "required_clauses",
    "text_test",
]
