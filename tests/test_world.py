"""The world of one process, and one of two that torch starts here."""

import pytest
import torch
import torch.distributed as dist
from processes import together

from vaekit.engine import world
from vaekit.errors import ConfigError, GroupError

needs_gloo = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)


def test_a_process_alone_is_the_world():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (world.rank(), world.size(), world.part(7), world.place_of(3)) == (0, 1, slice(0, 7), slice(0, 3))
    assert torch.equal(world.reduce(value), value)
    assert not world.reduce(value).requires_grad, "as with several processes"
    assert torch.equal(world.total(value), value)
    gathered = world.gather(value)
    assert torch.equal(gathered, value)
    (gathered * torch.tensor([3.0, 4.0])).sum().backward()
    assert value.grad.tolist() == [3, 4]
    assert world.same(5)
    assert world.from_first(lambda: b"told") == b"told"
    assert world.any_of(True) is True
    assert world.any_of(False) is False


def _refuse():
    raise ConfigError("it cannot be")


def _asked():
    """What a process of two is told."""
    rank = world.rank()
    own = torch.tensor([[1.0 + rank, 2.0 + rank]] * (1 + rank), requires_grad=True)  # one row, and two
    sums, rows = world.reduce(own.sum(0)), world.gather(own)
    # Each process weighs the rows in its own way: 10, 20 and 30 on the first one, ten times that on the second.
    (rows * torch.tensor([[10.0], [20.0], [30.0]]) * 10**rank).sum().backward()
    found = {"sums": sums.tolist(), "rows": rows.tolist(), "gradient": own.grad.tolist()}
    found |= {"has gradient": sums.requires_grad, "place": world.place_of(len(own)), "part": world.part(5)}
    value = torch.tensor(2.0 + rank, requires_grad=True)
    total = world.total(value)
    (total * 10**rank).backward()
    found |= {"total": float(total.detach()), "gradient of total": float(value.grad)}
    flags = world.gather(torch.tensor([rank == 1]))
    found |= {"flags": flags.tolist(), "of a type": flags.dtype == torch.bool}
    found["together"] = [t.tolist() for t in world.reduce_together([own[:1], torch.tensor(rank), own[0].double()])]
    found["none"] = world.gather(torch.ones(2 * rank, 3)).shape == (2, 3)
    mine = torch.full((3,), float(rank))
    world.take_over([mine])
    found |= {"taken over": mine.tolist(), "same": (world.same(3), world.same(rank))}
    found |= {"any": (world.any_of(rank == 1), world.any_of(False)), "told": world.from_first(lambda: b"first")}
    with world.alone():
        found["alone"] = (world.rank(), world.size(), world.reduce(torch.tensor(rank)).item())
    try:
        world.from_first(_refuse)
    except (ConfigError, GroupError) as error:
        found["refused"] = f"{type(error).__name__}: {error}"
    return found


@needs_gloo
def test_two_processes_have_sums_and_rows_of_both():
    first, second = together(_asked, 2)
    assert (first.pop("place"), second.pop("place")) == (slice(0, 1), slice(1, 3))
    assert (first.pop("part"), second.pop("part")) == (slice(0, 2), slice(2, 5))
    assert (first.pop("gradient"), second.pop("gradient")) == ([[110, 110]], [[220, 220], [330, 330]])
    assert (first.pop("alone"), second.pop("alone")) == ((0, 1, 0), (0, 1, 1))
    refused = (first.pop("refused"), second.pop("refused"))
    assert refused == ("ConfigError: it cannot be", "GroupError: process 0 gave up: it cannot be")
    assert first == second
    assert first == {
        "sums": [5, 8],
        "rows": [[1, 2], [2, 3], [2, 3]],
        "has gradient": False,
        "total": 5,
        "gradient of total": 11,
        "flags": [False, True],
        "of a type": True,
        "together": [[[3, 5]], 1, [3, 5]],
        "none": True,
        "taken over": [0, 0, 0],
        "same": (True, False),
        "any": (True, False),
        "told": b"first",
    }


def _left_alone():
    """The second process leaves before the first one has its answer."""
    if world.rank():
        dist.destroy_process_group()
        raise RuntimeError("gone")
    return world.reduce(torch.ones(2)).tolist()


@needs_gloo
def test_a_process_that_is_left_names_what_happened():
    with pytest.raises(RuntimeError, match="process 0: GroupError: process 0 of 2 waited in vain for the others"):
        together(_left_alone, 2)
