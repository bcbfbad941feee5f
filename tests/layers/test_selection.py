"""Selection: bad input, incomplete and doubtful profiles, prompts."""

import pytest
from profile_cases import U, make_profile

from kvlens.layers.selection import select
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by
from kvlens.texts.prompts import DEFAULT_QUERY, PROMPTS, Prompt


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rule": "best"}, "unknown rule 'best': choose one of paper, lowest-k"),
        ({"estimator": "mle"}, "no estimator 'mle', only twonn"),
        ({"window": 1.0}, "window"),
        ({"window": -0.1}, "window"),
        ({"window": float("nan")}, "window"),
        ({"skip_early": 1.0}, "skip_early"),
        ({"z": 0}, "z"),
        ({"layers": [1]}, '`layers` go with rule "explicit"'),
        ({"bias": [1.0, 2.0]}, "2 biases for 4 layers"),
        ({"bias": float("inf")}, "bias"),
        ({"position": "start"}, "position"),
        ({"pooling": "max"}, "pooling"),
        ({"queries": "some"}, "`queries`"),
        ({"readout": 30}, "`readout` is 30; the blocks are 0 to 29"),
        ({"readout": 1.5}, "`readout` is 1.5"),
    ],
)
def test_bad_input_is_one_line(options, problem):
    with pytest.raises(InputError, match=problem) as caught:
        select(make_profile(U), **options)
    assert "\n" not in str(caught.value)


def test_a_profile_of_some_layers():
    values = [12, 11, 9, 11, 12, 13]
    every_fifth = make_profile(values, 0.1, layers=range(0, 30, 5), n_layers=30)
    chosen = select(every_fifth)
    assert chosen.layers == (10, 11, 12, 13)
    assert "only 6 of the model's 30 layers were profiled" in chosen.warnings
    few = select(every_fifth, "lowest-k", window=0.3)
    assert few.layers == (10, 15, 20, 25)
    assert any("only 4 profiled layers lie past the first 20 %" in text for text in few.warnings)
    with pytest.raises(InputError, match="lower `skip_early`"):
        select(make_profile(values, layers=range(6), n_layers=30), "lowest-k")


def test_doubtful_estimates_and_other_prompts_are_named():
    doubtful = select(
        make_profile(U, warn={12: "no plateau: 3 to 9", 13: "n too small: x", 3: "unrelated"})
    )
    assert "the ID at layers 12-13 is in doubt (no plateau, n too small)" in doubtful.warnings
    raw = select(make_profile(U, prompt="raw"))
    assert "profiled with prompt raw, but documents will use kv-document-inner" in raw.warnings
    quoted = select(make_profile(U, prompt="kv-document-quoted"))
    assert quoted.prompts.query.name == "kv-query-quoted"
    assert quoted.prompts.document.name == "kv-document-quoted"
    assert not any("prompt" in text for text in quoted.warnings)


def test_another_estimator_decides_when_asked():
    profile = make_profile(U, 0.01, mle=U[::-1])
    assert select(profile, estimator="mle").layers == (18, 19, 20, 21)


def test_the_query_prompt_is_the_counterpart_of_the_document_prompt():
    profile = make_profile(U)
    for document in PROMPTS.values():
        counterpart = PROMPTS[document.name.replace("document", "query")]
        assert select(profile, document=document).prompts.query == counterpart
    of_user = Prompt(name="mine", prefix="Text: ")
    assert select(profile, document=of_user).prompts.query == DEFAULT_QUERY
    assert select(profile, document=of_user, query=of_user).prompts.query == of_user


def test_the_command_line_is_recorded_where_there_is_one():
    assert select(make_profile(U)).command is None
    with made_by("kvlens profile x"):
        assert select(make_profile(U)).command == "kvlens profile x"


def test_a_shielded_choice_is_not_warned_of_b_star():
    profile = make_profile(U, sink=12)
    plain = select(profile)
    shielded = select(profile, queries="shielded")
    assert any("not above b*" in text for text in plain.warnings)
    assert shielded.warnings == tuple(text for text in plain.warnings if "b*" not in text)
    assert shielded.control.queries == "shielded"
    assert "control" not in plain.model_dump()


def test_where_hidden_states_are_read():
    chosen = select(make_profile(U), readout=0.7, final_norm=False)
    assert (chosen.readout, chosen.final_norm) == (0.7, False)
    assert "read     after block 20 of 30, without the final norm" in str(chosen)
    assert "after block 20 of 30" in chosen._repr_html_()
    plain = select(make_profile(U))
    assert not {"readout", "final_norm"} & plain.model_dump().keys()
    assert "read" not in str(plain).split("why")[0]


def test_an_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError, match="biass"):
        select(make_profile(U), biass=3)
