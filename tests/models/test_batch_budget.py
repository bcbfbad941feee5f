"""Batch budget: by the free memory of the device, and as it was on a CPU."""

import pytest
from zoo import tiny

import kvlens
from kvlens.models.batch_budget import FEWEST, MOST, batch_budget, bytes_a_token, tokens_that_fit
from kvlens.store.room import Room


def test_on_a_cpu_it_is_what_it_was():
    lm = tiny("llama")
    assert batch_budget(lm, 2048) == 2048
    assert kvlens.Encoder(lm, "mean").batch_tokens == 4096
    assert bytes_a_token(lm) == 4 * (16 * 32 + 4 * 48)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3"])
def test_whatever_a_config_calls_its_width(architecture):
    assert bytes_a_token(tiny(architecture)) >= 4 * 16 * 32


def test_half_of_the_memory_is_taken_in_powers_of_two():
    assert tokens_that_fit(2 * 5000 * 10, 10) == 4096
    assert tokens_that_fit(2 * 4096 * 10, 10) == 4096
    assert tokens_that_fit(0, 10) == FEWEST
    assert tokens_that_fit(1 << 60, 10) == MOST


def test_room_that_another_process_found_is_gone_on_with():
    room = Room(100)
    assert room.short is None
    room.set_short(30)
    assert (room.tokens, room.short) == (30, 30)
    room.set_short(None)
    assert (room.tokens, room.short) == (100, None)
