"""Room for the tensors of a pass: kept by malloc from one pass to the next, instead of asked for anew."""

import torch

_LARGEST = 2**25 - 2**16  # bytes; glibc follows blocks of up to 32 MiB


def settle_heap() -> None:
    """Let malloc know of large blocks before the first of them is freed.

    glibc hands a freed block back to the system where it is larger than any that was freed before, and trims its heap
    at twice that size. Which of the tensors of a pass fall under this is chance, and each of their pages then costs a
    fault in every pass: evaluation took twice as long in every other process. A block of nearly 32 MiB that is freed at
    once, and never touched, moves both limits for good: at most 64 MiB of what is freed stay with the process. Other
    allocators, and one whose limits were set by its variables, are left as they are.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
