"""Generated examples that are the same in every run, on any machine, in any order."""

import hypothesis

_repeatable = hypothesis.settings(derandomize=True, database=None, deadline=None, max_examples=50)


def given(**strategies):
    """`hypothesis.given` with those settings; for a longer search, raise `max_examples` above for once."""

    def decorate(test):
        return _repeatable(hypothesis.given(**strategies)(test))

    return decorate
