"""Limits of days and names of classes, the same in config.yaml, in the arguments of steps and in the data."""

from datetime import date

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2199, 12, 31)  # days outside are no days
MOST_DAYS = 36_500  # a century
RESERVED_CLASSES = ("unknown", "unlabelled", "generated")  # columns and rows of our own are called so
