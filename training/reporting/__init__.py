"""What a report is made of: runs sorted into a study, one module for each kind of section, and the page around them.

A section is a function ``(study) -> Section | None`` that looks at what the runs hold and is None where they hold
nothing of its kind. To add one, write it and put it into SECTIONS of ``training/report.py``.
"""
