"""The paper's six data sets: public releases, as their authors publish them -> JSONL files with three splits.

One module per release reads its files; ``rows`` cleans and splits; ``python -m training.releases`` is the command.
"""
