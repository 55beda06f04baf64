"""Functions that several processes call together, in a group that torch makes here."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _member(rank: int, size: int, file: str, answers: Any, function: Callable[..., Any], arguments: tuple) -> None:
    torch.set_num_threads(1)
    how = {"rank": rank, "world_size": size, "timeout": timedelta(seconds=100)}
    dist.init_process_group("gloo", init_method=f"file://{file}", **how)
    try:
        answer = (rank, True, function(*arguments))
    except Exception as error:
        answer = (rank, False, f"{type(error).__name__}: {error}")
    answers.put(answer)
    answers.close()
    answers.join_thread()
    if answer[1]:
        dist.barrier()  # a process that leaves early would break the connection of the others


def together(function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """What `size` processes answer, in the order of their ranks, when all of them call a function of a test file.

    Answers are plain values or arrays: a tensor would be taken away with its process.

    Raises:
        RuntimeError: if one of them raised an error.
    """
    context = mp.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        fixed = (size, str(Path(folder) / "group"), answers, function, arguments)
        processes = [context.Process(target=_member, args=(rank, *fixed)) for rank in range(size)]
        try:
            for process in processes:
                process.start()
            found = sorted((answers.get(timeout=300) for _ in processes), key=lambda answer: answer[0])
        finally:  # how gloo's threads end is not the question here
            for process in processes:
                process.join(10)
                process.kill()
    for rank, is_fine, answer in found:
        if not is_fine:
            raise RuntimeError(f"process {rank}: {answer}")
    return [answer for _, _, answer in found]
