"""What makes explanations end where they should, for every contestant alike."""

import torch

from benchmarks.shapes import Ending, ending
from service.model.decoding import NEVER

EOS = 2


def test_the_end_is_certain_where_it_is_due_and_impossible_elsewhere() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    found = ending(logits, torch.tensor([True, False]), EOS)
    assert found.tolist() == [[NEVER, NEVER, 0.0, NEVER], [1.0, 2.0, NEVER, 4.0]]


def test_generate_ends_each_text_at_its_own_length() -> None:
    processor = Ending([3, 5], num_beams=2, eos_id=EOS, before=1)
    for written in range(5):
        ids = torch.zeros(4, 1 + written, dtype=torch.long)
        ends = processor(ids, torch.zeros(4, 6))[:, EOS] == 0
        assert ends.tolist() == [written + 1 >= 3] * 2 + [written + 1 >= 5] * 2
