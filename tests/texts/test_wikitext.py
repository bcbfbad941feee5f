"""From wikitext to sentences and gaps."""

from kvlens.texts.wikitext import paragraphs

ARTICLE = """{{Infobox person|name=X|born={{birth date|1900|1|1}}}}
{{About|a thing}}
[[File:A.jpg|thumb|A caption with a [[link]]. It is dropped.]]
'''Ada Lovelace''' ({{IPAc-en|x}}; {{lang|el|Α}}, born 1815) was a
''mathematician''<ref>A note.</ref>
from [[London|the city]].{{sfn|X|2000}}
She&nbsp;wrote to [[Babbage]] &ndash; often{{citation needed|date=May 2016}} daily. <!-- hidden -->
It was {{convert|3|km|mi}} away.
Mr. J. D. Smith of the U.S. Navy paid [http://example.org her friend] well.
A pro-U.S. and pro-Europe policy of the then Lt. Governor won.

== A heading ==
{{Main|Other}}
The drink H<sub>2</sub>O was praised by the 19<sup>th</sup> century.
Here 10<sup>3</sup> is a number.
So is <math>x^2</math> here. Below stand the facts:
* A list item. It is dropped.
# Another one. It is dropped.
: An indented line. It is dropped.
{| class="wikitable"
| A cell. || It is dropped.
|}
She asked: "Is it so?" He said "yes" (or [[no]]). But "this quote is open. A fragment without a verb
[[Category:Things]]

==References==
{{reflist}}
This is no prose. It is dropped.
"""


def test_wikitext_becomes_sentences_and_gaps():
    assert paragraphs(ARTICLE) == [
        [
            "Ada Lovelace was a mathematician from the city.",
            "She wrote to Babbage – often daily.",
            None,
            "Mr. J. D. Smith of the U.S. Navy paid her friend well.",
            "A pro-U.S. and pro-Europe policy of the then Lt. Governor won.",
        ],
        [
            "The drink H2O was praised by the 19th century.",
            None,
            None,
            None,
        ],
        [None, 'He said "yes" (or no).', None, None],
    ]
