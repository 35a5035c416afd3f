"""The answer of a study: one sentence per factor, with a verdict where there is one.

This package writes the text above the tables: findings with verdicts, reasons for missing verdicts,
and cautions.
"""

from reports.answer.build import build_answer
from reports.answer.finding import Answer, Finding
from reports.answer.paired import paired_answer, paired_limits
