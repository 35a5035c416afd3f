"""What a study says, in a sentence for each factor: decided, equivalent or undecided.

Answers for: the words that stand before every table, made from the tables' numbers alone.
"""

from reports.answer.answer import build_answer
from reports.answer.findings import Answer, Finding
