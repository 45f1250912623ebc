import numpy as np
import pandas as pd

from rankscale_utils.report import tables
from tests.report.html import cells


def test_a_table_shows_the_columns_named_as_they_are_to_be_read():
    table = pd.DataFrame(
        {"rung": ["w8", "w16"], "N": [1234.5, 67890.0], "value": [0.12345, np.nan], "hit": [True, False], "no": [1, 2]}
    )
    html = tables.styled(table, rung="rung", N="params|,.0f", value="nDCG@10|.3f", hit="hit")
    assert cells(html) == [
        ["rung", "params", "nDCG@10", "hit"],
        ["w8", "1,234", "0.123", "yes"],
        ["w16", "67,890", "–", "no"],
    ]
    assert '<td class="hit">yes</td>' in html.data
    assert '<td class="miss">no</td>' in html.data
    assert '<th class="text">rung</th>' in html.data
    assert "<th>params</th>" in html.data


def test_text_is_never_taken_for_html():
    table = pd.DataFrame({"name": ["<b>&"]})
    assert "&lt;b&gt;&amp;" in tables.styled(table, name="<i>").data
    assert "<b>" not in tables.styled(table, name="<i>").data
    assert "<i>" not in tables.styled(table, name="<i>").data
    assert "<b>" not in tables.facts(field="<b>").data
    assert "<b>" not in tables.finding("<b>").data


def test_an_absent_text_is_a_dash_and_an_empty_table_its_head():
    assert cells(tables.styled(pd.DataFrame({"name": [None]}), name="name")) == [["name"], ["–"]]
    assert cells(tables.styled(pd.DataFrame({"name": []}), name="name")) == [["name"]]


def test_facts_are_rows_of_a_name_and_a_value():
    assert cells(tables.facts(learning_rate=0.003, rung="w8")) == [["learning rate", "0.003"], ["rung", "w8"]]


def test_a_finding_is_its_sentences_a_paragraph_each():
    assert tables.finding("a < b.", "It rose.").data == (
        f'<div class="finding {tables.NO_TEX}"><p>a &lt; b.</p><p>It rose.</p></div>'
    )
    assert tables.finding().data == ""


def test_numbers_are_written_as_plain_text_in_every_format():
    html = tables.styled(pd.DataFrame({"size": [5e5], "ends": ["488 [<1, 2]"]}), size="size|si", ends="interval|s")
    assert cells(html)[1] == ["500k", "488 [&lt;1, 2]"]


def test_searched_collections_and_further_scores_are_told_apart():
    table = pd.DataFrame({"collection": ["dev"], "metric": ["AP"], "task": ["search"], "score": ["true_false"]})
    assert cells(tables.styled(table, collection="on", metric="metric"))[1] == ["dev, searched", "AP by true_false"]
