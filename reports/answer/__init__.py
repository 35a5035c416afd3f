"""The answer of a study: the text above the tables.

It has findings on factors, controls and external results, most of them with a verdict, reasons for
missing verdicts, and cautions.
"""

from reports.answer.build import build_answer
from reports.answer.finding import Answer, Finding
from reports.answer.paired import list_paired_limits, make_paired_answer
