"""What a study says, in a sentence for each factor: decided, equivalent or undecided.

Answers for: the words that stand before every table, made from the tables' numbers alone, and what
weakens them.
"""

from reports.answer.build import build_answer
from reports.answer.finding import Answer, Finding
