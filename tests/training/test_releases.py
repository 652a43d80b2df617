import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.datasets import ESNLI_TASK
from service.model.errors import InputError
from service.model.task import Task
from training.data import Example, read_examples
from training.releases.__main__ import RELEASES, main, summary, write_release
from training.releases.rows import ConvertedRow, ReleasedRow, clean, convert, divide, split_sizes

ROOT = Path(__file__).parents[2]
TASK_FILES = sorted((ROOT / "examples").glob("*/task.yaml"))

# What the teacher is asked after the text, filled in by hand. The first six are the paper's (Table 5, appendices).
SENTENCES = {
    "rte": (("entailment", {}), "Sentence 1 can entail sentence 2, explain the reason within 50 words."),
    "mrpc": (
        ("not_equivalent", {}),
        "The relation between the above two sentences is not paraphrase equivalent, "
        "explain the reason within 50 words.",
    ),
    "mams": (
        ("negative", {"target": "staff"}),
        "The sentiment polarity of the review to the aspect staff is negative, explain the reason within 50 words.",
    ),
    "covid19": (
        ("favor", {"target": "Stay at Home Orders"}),
        "The stance of this tweet to the target Stay at Home Orders is favor, explain the reason within 50 words.",
    ),
    "deba": (("agree", {}), "The stance of sentence 2 is agree to sentence 1, explain the reason within 50 words."),
    "clef": (
        ("not_relevant", {"topic": "tests for rabies"}),
        "The scientific document is not relevant to the research topic tests for rabies, "
        "explain the reason within 100 words.",
    ),
    "e-snli": (
        ("neutral", {}),
        "The relation of sentence 2 to sentence 1 is neutral, explain the reason within 50 words.",
    ),
    "product-reviews": (
        ("positive", {}),
        "The sentiment of this review towards the product is positive, explain the reason within 30 words.",
    ),
}


def task(name: str) -> Task:
    return Task.from_yaml(ROOT / "examples" / name / "task.yaml")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def tsv(path: Path, rows: Sequence[Sequence[str]], end: str = "\n", encoding: str = "utf-8") -> Path:
    return write(path, "".join("\t".join(row) + end for row in rows), encoding)


def converted(name: str, release: Path, output: Path, seed: int = 42) -> dict[str, Example]:
    """The examples of a converted release by id, read back with the task's own file."""
    write_release(name, release, output, seed)
    return {example.id: example for example in read_examples(output, task(name), require_labels=True)}


def problem(name: str, release: Path, output: Path) -> str:
    with pytest.raises(InputError) as caught:
        write_release(name, release, output, 42)
    assert not output.exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


# The task files.


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.parent.name)
def test_every_example_is_a_task_that_asks_with_its_texts_and_its_sentence(path: Path) -> None:
    example = Task.from_yaml(path)
    (label, given), sentence = SENTENCES[path.parent.name]
    fields = {field: f"<{field}>" for field in example.fields} | given
    prompt = example.render_prompt(fields, label)
    assert prompt.endswith(f'" {sentence}') or prompt.endswith(f'". {sentence}')
    assert all(fields[field] in prompt for field in example.fields)
    assert all(fields[field] in example.render_input(fields) for field in example.fields)


def test_the_papers_six_tasks_are_there_and_e_snli_is_the_benchmarks() -> None:
    names = {path.parent.name for path in TASK_FILES}
    assert set(RELEASES) == {"rte", "mrpc", "mams", "covid19", "deba", "clef"} <= names
    assert task("e-snli") == ESNLI_TASK


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_converted_to_the_labels_of_its_task(name: str) -> None:
    assert set(RELEASES[name].labels.values()) == set(task(name).labels)


# Splits.


@pytest.mark.parametrize(
    ("count", "undivided", "sizes"),
    [
        (2490, "train+dev", {"train": 2240, "dev": 250}),
        (4076, "train+dev", {"train": 3667, "dev": 409}),
        (9810, "train+dev+test", {"train": 7847, "dev": 981, "test": 982}),
        (5773, "train+dev+test", {"train": 4617, "dev": 578, "test": 578}),
        (11, "train+dev+test", {"train": 8, "dev": 1, "test": 2}),
        (1, "train+dev", {"train": 0, "dev": 1}),
        (0, "train+dev", {"train": 0, "dev": 0}),
    ],
)
def test_the_sizes_of_a_random_split_are_the_papers(count: int, undivided: str, sizes: Mapping[str, int]) -> None:
    assert split_sizes(count, undivided) == sizes


def undivided(labels: Mapping[str, int], split: str = "train+dev+test") -> list[ConvertedRow]:
    names = [label for label, count in labels.items() for _ in range(count)]
    return [ConvertedRow(str(index), {}, label, split) for index, label in enumerate(names)]


def test_each_label_is_split_in_proportion_and_rows_keep_their_order() -> None:
    rows = divide(undivided({"a": 601, "b": 300, "c": 100}), seed=0)
    assert [row.id for row in rows] == [str(index) for index in range(1001)]
    count = Counter((row.split, row.label) for row in rows)
    assert Counter(row.split for row in rows) == {"train": 800, "dev": 100, "test": 101}
    for split, size in (("dev", 100), ("test", 101)):
        for label, share in (("a", 601 / 1001), ("b", 300 / 1001), ("c", 100 / 1001)):
            assert abs(count[split, label] - share * size) < 1


def test_a_split_repeats_with_its_seed_and_changes_with_another() -> None:
    rows = undivided({"a": 60, "b": 40}, "train+dev")
    assert divide(rows, seed=3) == divide(rows, seed=3)
    assert divide(rows, seed=3) != divide(rows, seed=4)


def test_rows_that_the_release_has_split_keep_their_split() -> None:
    given = [ConvertedRow(f"given-{split}", {}, "a", split) for split in ("train", "dev", "test")]
    rows = divide([*given, *undivided({"a": 20}, "train+dev")], seed=1)
    assert rows[:3] == given
    assert Counter(row.split for row in rows[3:]) == {"train": 17, "dev": 3}


# Cleaning.


def test_what_cannot_be_used_is_left_out_and_counted() -> None:
    released = [
        ReleasedRow(f"train-{index}", {"text": text}, label, split, other)
        for index, (text, label, split, other) in enumerate(
            [
                (" cafe\u0301\n", " 1 ", "train", None),
                ("plain", "0", "dev", None),
                ("plain", "0", "test", None),
                (" \u2003", "1", "train", None),
                ("half \ud83d", "1", "train", None),
                ("x", "conflict", "train", None),
                ("y", "conflict", "train", None),
                ("z", "1", "train", "of r/other"),
            ]
        )
    ]
    conversion = convert(released, "demo", {"1": "yes", "0": "no"}, seed=0)
    assert [row.to_dict() for row in conversion.rows] == [
        {"id": "demo-train-0", "text": "caf\u00e9", "label": "yes", "split": "train"},
        {"id": "demo-train-1", "text": "plain", "label": "no", "split": "dev"},
        {"id": "demo-train-2", "text": "plain", "label": "no", "split": "test"},
    ]
    assert conversion.left_out == {
        "with an empty text": 1,
        "with a text that is not valid Unicode": 1,
        "with the label 'conflict'": 2,
        "of r/other": 1,
    }
    assert not conversion.divided


def test_a_split_without_rows_is_an_error_that_counts_what_was_left_out() -> None:
    released = [ReleasedRow("0", {"text": "x"}, "1", "train"), ReleasedRow("1", {"text": "y"}, "-1", "test")]
    with pytest.raises(InputError, match=r"no row is left for dev and test: .* found 1 such rows, left out 1 .*'-1'"):
        convert(released, "demo", {"1": "yes"}, seed=0)


def test_clean_texts_stay_as_they_are() -> None:
    assert clean("two  blanks\nand a line") == "two  blanks\nand a line"


# RTE and MRPC.

RTE_TRAIN = [
    (str(index), f'He said "premise {index}.', f"Hypothesis {index}.", ("entailment", "not_entailment")[index % 2])
    for index in range(21)
]
RTE_DEV = [("7", "A dev premise.", "A dev hypothesis.", "entailment")]
RTE_COLUMNS = ("index", "sentence1", "sentence2", "label")


def rte(folder: Path) -> Path:
    tsv(folder / "RTE" / "train.tsv", [RTE_COLUMNS, *RTE_TRAIN])
    tsv(folder / "RTE" / "dev.tsv", [RTE_COLUMNS, *RTE_DEV])
    tsv(folder / "RTE" / "test.tsv", [RTE_COLUMNS[:3], ("0", "Without", "a label.")])
    return folder


def test_rte_is_read_out_of_glue_with_its_quotation_marks(tmp_path: Path) -> None:
    tsv(tmp_path / "glue_data" / "CoLA" / "train.tsv", [("a", "b")])
    release = rte(tmp_path / "glue_data")
    rows = converted("rte", release, tmp_path / "rte.jsonl")
    assert len(rows) == 22
    assert rows["rte-train-3"].fields == {"sentence1": 'He said "premise 3.', "sentence2": "Hypothesis 3."}
    assert rows["rte-train-3"].label == "not_entailment"
    assert rows["rte-dev-0"].split == "test"
    assert Counter(row.split for row in rows.values()) == {"train": 18, "dev": 3, "test": 1}
    assert converted("rte", release / "RTE", tmp_path / "again.jsonl") == rows


def test_super_glues_and_the_numbered_copies_of_rte_give_the_same_rows(tmp_path: Path) -> None:
    expected = converted("rte", rte(tmp_path / "glue"), tmp_path / "rte.jsonl")
    for file, pairs in (("train", RTE_TRAIN), ("val", RTE_DEV)):
        rows = [{"premise": a, "hypothesis": b, "label": label, "idx": int(i)} for i, a, b, label in pairs]
        write(tmp_path / "super" / "RTE" / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert converted("rte", tmp_path / "super", tmp_path / "super.jsonl") == expected
    (tmp_path / "numbered" / "rte").mkdir(parents=True)
    for file, pairs in (("train", RTE_TRAIN), ("validation", RTE_DEV)):
        rows = [{"sentence1": a, "sentence2": b, "label": int(label != "entailment")} for _, a, b, label in pairs]
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, tmp_path / "numbered" / "rte" / f"{file}-00000-of-00001.parquet")
    assert converted("rte", tmp_path / "numbered", tmp_path / "numbered.jsonl") == expected


MRPC_COLUMNS = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
MRPC_TRAIN = [(str(n % 2), str(n), str(n + 9), f'"Pair {n}, he said.', f"It was {n} that he said.") for n in range(21)]


def test_mrpc_is_read_with_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    tsv(tmp_path / "msr_paraphrase_train.txt", [MRPC_COLUMNS, *MRPC_TRAIN], "\r\n", "utf-8-sig")
    tsv(tmp_path / "msr_paraphrase_test.txt", [MRPC_COLUMNS, *MRPC_TRAIN[:2]], "\r\n", "utf-8-sig")
    rows = converted("mrpc", tmp_path, tmp_path / "mrpc.jsonl")
    assert rows["mrpc-train-4"].fields == {"sentence1": '"Pair 4, he said.', "sentence2": "It was 4 that he said."}
    assert [rows[f"mrpc-train-{n}"].label for n in (4, 5)] == ["not_equivalent", "equivalent"]
    assert Counter(row.split for row in rows.values()) == {"train": 18, "dev": 3, "test": 2}


def test_glues_train_and_dev_of_mrpc_are_put_together_before_they_are_split(tmp_path: Path) -> None:
    for file, pairs in (("train", MRPC_TRAIN[:15]), ("validation", MRPC_TRAIN[15:]), ("test", MRPC_TRAIN[:2])):
        rows = [{"sentence1": a, "sentence2": b, "label": int(quality)} for quality, _, _, a, b in pairs]
        write(tmp_path / "mrpc" / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    rows = converted("mrpc", tmp_path, tmp_path / "mrpc.jsonl")
    assert Counter(row.split for row in rows.values()) == {"train": 18, "dev": 3, "test": 2}
    assert rows["mrpc-dev-5"].fields["sentence1"] == '"Pair 20, he said.'


def test_glues_test_pairs_of_mrpc_without_labels_are_refused(tmp_path: Path) -> None:
    for file in ("train", "dev"):
        tsv(tmp_path / "MRPC" / f"{file}.tsv", [MRPC_COLUMNS, *MRPC_TRAIN])
    tsv(tmp_path / "MRPC" / "test.tsv", [("index", *MRPC_COLUMNS[1:]), ("0", *MRPC_TRAIN[0][1:])])
    message = problem("mrpc", tmp_path, tmp_path / "mrpc.jsonl")
    assert "test.tsv, line 2: expected a column 'Quality' or 'label'; found 'index', '#1 ID'" in message
    assert "Microsoft Research Paraphrase Corpus" in message


def test_a_broken_line_and_another_encoding_are_named(tmp_path: Path) -> None:
    tsv(tmp_path / "a" / "train.tsv", [RTE_COLUMNS, ("0", "Only", "three cells")])
    tsv(tmp_path / "a" / "dev.tsv", [RTE_COLUMNS, *RTE_DEV])
    assert "train.tsv, line 2: expected 4 cells" in problem("rte", tmp_path / "a", tmp_path / "rte.jsonl")
    tsv(tmp_path / "a" / "train.tsv", [RTE_COLUMNS, ("0", "Caf\u00e9", "x", "entailment")], encoding="latin-1")
    assert "train.tsv, line 2: not UTF-8 (" in problem("rte", tmp_path / "a", tmp_path / "rte.jsonl")


def test_two_tables_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    for folder in ("CoLA", "SST-2"):
        tsv(tmp_path / folder / "train.tsv", [("sentence", "label")])
    assert "expected one train.tsv, found CoLA/train.tsv and SST-2/train.tsv" in problem(
        "rte", tmp_path, tmp_path / "rte.jsonl"
    )


# MAMS.


def mams(folder: Path, sentences: str) -> Path:
    for name in ("train", "val", "test"):
        write(
            folder / "data" / "MAMS-ACSA" / "raw" / f"{name}.xml",
            f'<?xml version="1.0" encoding="utf-8"?>\n<sentences>\n{sentences}</sentences>\n',
        )
    return folder


MAMS_SENTENCES = """\t<sentence>
\t\t<text>Nice soup &amp; bread, but the queue\u2026</text>
\t\t<aspectCategories>
\t\t\t<aspectCategory category="food" polarity="positive"/>
\t\t\t<aspectCategory category="service" polarity="negative"/>
\t\t</aspectCategories>
\t</sentence>
\t<sentence>
\t\t<text>We sat outside.</text>
\t\t<aspectCategories>
\t\t\t<aspectCategory category="food" polarity="conflict"/>
\t\t\t<aspectCategory category="place" polarity="neutral"/>
\t\t</aspectCategories>
\t</sentence>
"""


def test_mams_has_a_row_for_each_category_and_keeps_its_split(tmp_path: Path) -> None:
    rows = converted("mams", mams(tmp_path / "MAMS-for-ABSA", MAMS_SENTENCES), tmp_path / "mams.jsonl")
    assert list(rows) == [f"mams-{part}-{key}" for part in ("train", "val", "test") for key in ("0-0", "0-1", "1-1")]
    fields = {"text": "Nice soup & bread, but the queue\u2026", "target": "service"}
    assert rows["mams-train-0-1"] == Example("mams-train-0-1", fields, "negative", "train")
    assert [rows[f"mams-{part}-1-1"].split for part in ("train", "val", "test")] == ["train", "dev", "test"]
    assert converted("mams", tmp_path / "MAMS-for-ABSA" / "data", tmp_path / "again.jsonl") == rows


def test_mams_with_aspect_terms_or_broken_xml_is_refused(tmp_path: Path) -> None:
    terms = '<sentence><text>x</text><aspectTerms><aspectTerm term="x" polarity="neutral"/></aspectTerms></sentence>'
    mams(tmp_path / "a", terms)
    assert "found aspect terms, the part MAMS-ATSA" in problem("mams", tmp_path / "a", tmp_path / "mams.jsonl")
    mams(tmp_path / "b", "<sentence>")
    assert "it cannot be read (mismatched tag" in problem("mams", tmp_path / "b", tmp_path / "mams.jsonl")


# COVID19.


def covid19(folder: Path, header: str, text: str) -> Path:
    opinion = '"1.  The tweet explicitly expresses opinion about the target, a part of it."'
    for target in ("face_masks", "fauci", "school_closures", "stay_at_home_orders"):
        for name in ("train", "train_noisy", "val", "test"):
            rows = [f"12{n},{target},{stance},{opinion},neg{text}" for n, stance in enumerate(("FAVOR", "NONE"))]
            content = "\n".join([f"Tweet Id,Target,Stance,Opinion Towards,Sentiment{header}", *rows]) + "\n"
            write(folder / "dataset" / f"{target}_{name}.csv", content)
    return folder


def test_covid19_takes_the_four_targets_and_their_names(tmp_path: Path) -> None:
    release = covid19(tmp_path, ",Tweet", ',"Masks, ""now"".\n#ok"')
    rows = converted("covid19", release, tmp_path / "covid19.jsonl")
    assert Counter(row.split for row in rows.values()) == {"train": 8, "dev": 8, "test": 8}
    fields = {"text": 'Masks, "now".\n#ok', "target": "Wearing a Face Mask"}
    assert rows["covid19-train-1"] == Example("covid19-train-1", fields, "neutral", "train")
    assert {row.fields["target"] for row in rows.values()} == {
        "Wearing a Face Mask",
        "Anthony S. Fauci, M.D.",
        "Keeping Schools Closed",
        "Stay at Home Orders",
    }


def test_covid19_without_the_texts_says_how_they_come_there(tmp_path: Path) -> None:
    message = problem("covid19", covid19(tmp_path, "", ""), tmp_path / "covid19.jsonl")
    assert "face_masks_train.csv, line 2: expected a column 'Tweet'" in message
    assert "fetch the tweets by their ids" in message


def test_covid19_in_three_files_of_all_targets_is_read_too(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        lines = "Tweet,Target 1,Stance 1\nStay in,stay_at_home_orders,AGAINST\n,fauci,FAVOR\n"
        write(tmp_path / f"raw_{name}_all_onecol.csv", lines)
    rows = converted("covid19", tmp_path, tmp_path / "covid19.jsonl")
    assert [(row.id, row.label) for row in rows.values()] == [
        (f"covid19-{name}-0", "against") for name in ("train", "val", "test")
    ]


# DEBA.


def test_deba_is_the_climate_pairs_without_those_that_a_spreadsheet_lost(tmp_path: Path) -> None:
    header = "label,datetime,subreddit,author_parent,body_parent,body_child,agreement_fraction\n"
    lines = [f'{n % 3},1/5/2016 19:38,climate,a{n},"A comment, {n}","A\nreply",1.0\n' for n in range(30)]
    lines += ["0,1/5/2016 19:38,climate,a,#NAME?,A reply,1.0\n", "2,1/5/2016 19:38,Brexit,a,A comment,A reply,1.0\n"]
    path = write(tmp_path / "release" / "labeled_data.csv", header + "".join(lines))
    conversion = write_release("deba", tmp_path / "release", tmp_path / "deba.jsonl", 42)
    assert conversion.left_out == {"with an empty sentence1": 1, "of r/Brexit": 1}
    rows = converted("deba", path, tmp_path / "deba.jsonl")
    assert [rows[f"deba-{n}"].label for n in range(3)] == ["disagree", "neutral", "agree"]
    assert rows["deba-7"].fields == {"sentence1": "A comment, 7", "sentence2": "A\nreply"}
    assert Counter(row.split for row in rows.values()) == {"train": 23, "dev": 3, "test": 4}


# CLEF.


def clef(folder: Path) -> Path:
    judged = [f"CD00{n % 2}     0  {100 + n}     {int(n % 4 == 0)}  \n" for n in range(40)]
    write(folder / "qrels" / "full.test.dta.abs.2019.qrels", "".join(judged) + judged[0])
    write(folder / "qrels" / "full.test.dta.content.2019.qrels", "CD000 0 101 1\n")
    for topic in ("CD000", "CD001"):
        text = f"Topic: {topic} \n\nTitle: Tests for \u03b2-rabies in {topic} \n\nQuery: \nexp Title: x/\n"
        write(folder / "topics" / topic, f"{text}\nPids: \n    101 \n")
    return folder


def test_clef_joins_judgements_titles_and_pubmeds_xml(tmp_path: Path) -> None:
    release = clef(tmp_path / "DTA")
    articles = "".join(
        f"<PubmedArticle><MedlineCitation><PMID Version='1'>{100 + n}</PMID><Article>"
        f"<ArticleTitle>On <i>rabies</i> {n}.</ArticleTitle><Abstract><AbstractText Label='AIM'>Aim {n}.</AbstractText>"
        "\n<AbstractText>Done.</AbstractText></Abstract></Article><CommentsCorrectionsList><CommentsCorrections>"
        "<PMID>1</PMID></CommentsCorrections></CommentsCorrectionsList></MedlineCitation></PubmedArticle>\n"
        for n in range(38)
    )
    write(release / "documents.xml", f"<?xml version='1.0'?>\n<PubmedArticleSet>{articles}</PubmedArticleSet>")
    rows = converted("clef", release, tmp_path / "clef.jsonl")
    assert rows["clef-CD000-104"].fields == {
        "document": "On rabies 4. Aim 4. Done.",
        "topic": "Tests for \u03b2-rabies in CD000",
    }
    assert [rows[key].label for key in ("clef-CD000-104", "clef-CD001-101")] == ["relevant", "not_relevant"]
    assert Counter(row.split for row in rows.values()) == {"train": 29, "dev": 4, "test": 5}
    conversion = write_release("clef", release, tmp_path / "clef.jsonl", 42)
    assert conversion.left_out == {"with an empty document": 2}


def test_clef_reads_documents_as_a_table_and_leaves_out_those_without_an_abstract(tmp_path: Path) -> None:
    release = clef(tmp_path / "DTA")
    documents = [{"pmid": 100 + n, "title": f"On {n}.", "abstract": f"Aim {n}." if n else None} for n in range(40)]
    write(release / "documents.jsonl", "".join(json.dumps(row) + "\n" for row in documents))
    rows = converted("clef", release, tmp_path / "clef.jsonl")
    assert len(rows) == 39
    assert rows["clef-CD001-101"].fields["document"] == "On 1. Aim 1."


def test_clef_without_documents_or_with_other_lines_is_refused(tmp_path: Path) -> None:
    release = clef(tmp_path / "DTA")
    message = problem("clef", release, tmp_path / "clef.jsonl")
    assert "expected documents (documents*.xml or" in message
    assert "found qrels, topics" in message
    assert "PubMed" in message
    write(release / "documents.jsonl", '{"pmid": 1, "title": "x", "abstract": "y"}\n')
    write(release / "qrels" / "b.qrels", "CD000 101 1\n")
    assert "b.qrels, line 1: expected 'topic 0 PMID judgement'; found 'CD000 101 1'" in problem(
        "clef", release, tmp_path / "clef.jsonl"
    )


# The command.


@pytest.mark.parametrize("name", RELEASES)
def test_a_wrong_path_says_what_was_expected_what_is_there_and_where_the_release_is(name: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    message = problem(name, tmp_path, tmp_path / "out.jsonl")
    assert message.startswith(f"{tmp_path}: expected ")
    assert "found pictures" in message
    assert "https://" in message
    missing = problem(name, tmp_path / "nowhere", tmp_path / "out.jsonl")
    assert missing.startswith(f"{tmp_path / 'nowhere'}: expected a folder")


def test_the_output_is_the_same_every_time_and_written_whole(tmp_path: Path) -> None:
    release = rte(tmp_path / "glue")
    output = tmp_path / "new" / "rte.jsonl"
    write_release("rte", release, output, 42)
    first = output.read_bytes()
    write_release("rte", release, output, 42)
    assert output.read_bytes() == first
    assert [path.name for path in output.parent.iterdir()] == ["rte.jsonl"]
    write_release("rte", release, output, 43)
    assert output.read_bytes() != first


def test_the_summary_sets_the_sizes_beside_the_papers(tmp_path: Path) -> None:
    conversion = write_release("mams", mams(tmp_path, MAMS_SENTENCES), tmp_path / "mams.jsonl", 42)
    assert summary("mams", conversion, 42).splitlines() == [
        "train: 3 (1 negative, 1 neutral, 1 positive); the paper has 7090, 7087 more than here",
        "dev: 3 (1 negative, 1 neutral, 1 positive); the paper has 888, 885 more than here",
        "test: 3 (1 negative, 1 neutral, 1 positive); the paper has 901, 898 more than here",
        "left out 3 rows with the label 'conflict'",
        "split: the release's own",
    ]


def test_the_command_converts_and_ends_with_2_and_one_line_where_the_input_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rte.jsonl"
    command = [sys.executable, "-m", "training.releases", "rte", str(rte(tmp_path / "glue")), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "split: drawn at random with seed 42, each label in proportion"
    assert len(output.read_text().splitlines()) == 22
    assert main(["mams", str(tmp_path), "--output", str(output)]) == 2
    assert main(["rte", str(tmp_path / "glue"), "--output", str(tmp_path / "rte.csv")]) == 2
    assert main(["rte", str(tmp_path / "glue"), "--output", str(output / "under-a-file" / "rte.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    for arguments in (["snli", "x", "--output", "y"], ["rte", "x", "--output", "y.jsonl", "--seed", "-1"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
