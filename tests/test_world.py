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
    assert not world.reduce(value).requires_grad, "as with several processes"
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
    answers.close()
    answers.join_thread()
    dist.barrier()  # a process that leaves early would break the connection of the other


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_sums_and_rows_of_both(tmp_path):
    context = mp.get_context("spawn")
    answers, group = context.Queue(), str(tmp_path / "group")
    processes = [context.Process(target=_member, args=(rank, group, answers), daemon=True) for rank in range(2)]
    try:
        for process in processes:
            process.start()
        first, second = sorted(answers.get(timeout=100) for _ in processes)
    finally:  # how gloo's threads end is not the question here
        for process in processes:
            process.join(10)
            process.kill()
    both = [[1, 2], [2, 3]]
    assert first == (0, 2, [[3, 5]], False, both, [[1, 2]], [[110, 110]])
    assert second == (1, 2, [[3, 5]], False, both, [[2, 3]], [[220, 220]])
