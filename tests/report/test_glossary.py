from rankscale_utils.report.glossary import TERMS, anchor, explained, glossary


def test_a_term_is_explained_where_it_first_stands():
    said = explained("The interval of a rung, and that interval's end <b>")
    assert said.count("<a ") == 2
    assert f'href="#{anchor("interval")}" title="{TERMS["interval"]}"' in said
    assert said.endswith("that interval&#39;s end &lt;b&gt;")


def test_the_longest_term_counts_and_parts_of_words_do_not():
    assert 'href="#term-skill-to-p0"' in explained("skill to P0")
    assert explained("intervals, rung-wise, P01") == "intervals, rung-wise, P01"
    assert 'href="#term-no-change"' in explained("by “no change”.")


def test_every_anchor_is_its_own():
    anchors = [place for place, _, _ in glossary()]
    assert len(set(anchors)) == len(TERMS)
