#!/usr/bin/env python3
"""Writes book.xlsx beside this script with openpyxl (Debian: python3-openpyxl 3.0.9)."""
import datetime
import pathlib
from openpyxl import Workbook
from openpyxl.styles import Font

book = Workbook()
orders = book.active
orders.title = "Orders"
orders.append(["Orders of November"])
orders["A1"].font = Font(bold=True)
orders.append([])
orders.append(["id", "region", "amount", "ordered", "shipped", "paid", "share"])
rows = [
    ("007", "North", 0.1, datetime.date(2026, 11, 24), datetime.datetime(2026, 11, 25, 9, 30), True, 0.125),
    ("008", "Süd & West", 0.2, datetime.date(1900, 1, 31), datetime.datetime(2026, 11, 26, 23, 59, 59), False, 0.5),
    ("009", " <North> ", 4800, datetime.date(2024, 2, 29), None, True, 1e-7),
    ("010", "North\nEast", 0.1 + 0.2, datetime.date(9999, 12, 31), datetime.datetime(1900, 3, 1), False, -12.5),
]
for row in rows:
    orders.append(row)
for row in range(4, 8):
    orders.cell(row, 3).number_format = '#,##0.00\\ "EUR dd"'
    orders.cell(row, 7).number_format = "0.00%"
orders["J5"] = "a note"

times = book.create_sheet("Times")
times.append(["at", "worked"])
times.append([datetime.time(7, 5), datetime.timedelta(hours=37, minutes=30)])
times.append([datetime.time(23, 59, 59), datetime.timedelta(minutes=1)])
for row in (2, 3):
    times.cell(row, 2).number_format = "[h]:mm:ss"

open_sums = book.create_sheet("Sums")
open_sums.append(["sum"])
open_sums.append(["=1+1"])

hidden = book.create_sheet("Hidden")
hidden.append(["secret"])
hidden.append([1])
hidden.sheet_state = "hidden"
book.create_sheet("Empty")
book.properties.creator = "make_book.py"
book.save(pathlib.Path(__file__).with_name("book.xlsx"))
