"""Sharing: values of objects and of threads, which no copy takes along."""

import copy
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

from kvlens.store.sharing import PerObject, PerThread, lock_of


class Thing:
    pass


def test_an_object_has_one_value_in_every_thread():
    thing = Thing()
    start = threading.Barrier(8)
    values = PerObject(Thing)

    def ask(_):
        start.wait()
        return values.of(thing)

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(ask, range(8)))
    assert seen == {values.of(thing)}
    assert values.of(Thing()) not in seen
    assert lock_of(thing) is lock_of(thing)


def test_a_value_goes_with_its_object_and_no_copy_has_it():
    made = []
    values = PerObject(lambda: made.append(1) or len(made))
    thing = Thing()
    assert values.of(thing) == values.of(thing) == 1
    assert values.of(copy.deepcopy(thing)) == 2
    assert vars(thing) == {}
    del thing
    gc.collect()
    assert len(values._values) == 0


def test_each_thread_reads_what_it_wrote():
    number = PerThread(0)
    written = threading.Barrier(2)

    def write(value):
        number.set(value)
        written.wait()
        return number.get()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(write, (1, 2))) == [1, 2]
    assert number.get() in (1, 2)  # this thread wrote none
    number.set(3)
    assert number.get() == 3
    assert copy.deepcopy(number).get() == pickle.loads(pickle.dumps(number)).get() == 3
