"""The world of one process, and one of two that torch starts here."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vaekit.engine import world


def test_a_process_alone_is_the_world():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (world.rank(), world.size()) == (0, 1)
    assert torch.equal(world.reduce(value), value)
    gathered = world.gather(value)
    assert torch.equal(gathered, value)
    (gathered * torch.tensor([3.0, 4.0])).sum().backward()
    assert value.grad.tolist() == [3, 4]


def _member(rank, file, answers):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    own = torch.tensor([[1.0 + rank, 2.0 + rank]], requires_grad=True)
    total, rows = world.reduce(own), world.gather(own)
    # Each process weighs the rows in its own way: 10 and 20 on the first one, 100 and 200 on the second.
    (rows * torch.tensor([[10.0], [20.0]]) * 10**rank).sum().backward()
    answer = (world.rank(), world.size(), total.tolist(), total.requires_grad, rows.tolist(), own.tolist())
    answers.put((*answer, own.grad.tolist()))
    dist.barrier()  # a process that leaves early would break the connection of the other
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_sums_and_rows_of_both(tmp_path):
    answers = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_member, (str(tmp_path / "group"), answers), nprocs=2)
    first, second = sorted(answers.get() for _ in range(2))
    both = [[1, 2], [2, 3]]
    assert first == (0, 2, [[3, 5]], False, both, [[1, 2]], [[110, 110]])
    assert second == (1, 2, [[3, 5]], False, both, [[2, 3]], [[220, 220]])
