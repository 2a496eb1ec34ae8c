"""Bytes alive and operations, counted on tensors small enough to count by hand."""

from __future__ import annotations

import torch

from alignzoo.plan.live_bytes import LiveBytes

KILO = 1024 * 4  #: bytes of a thousand and twenty-four floats


def floats() -> torch.Tensor:
    return torch.zeros(1024)


def test_the_peak_is_what_was_alive_at_once() -> None:
    with LiveBytes() as live:
        first = floats()
        second = first + 1
        del first
        third = second + 1
        del second, third
    assert live.find_peak() == (2 * KILO, 0)
    assert live.bytes == 0


def test_views_and_updates_in_place_make_nothing() -> None:
    outside = floats()
    with LiveBytes() as live:
        outside.view(2, 512).t()[0].add_(1)
    assert live.find_peak() == (0, 0)


def test_gradients_are_counted_apart_and_a_share_of_them_can_be_kept() -> None:
    layers = torch.nn.Sequential(*(torch.nn.Linear(32, 32, bias=False) for _ in range(3)))
    with LiveBytes(layers) as live:
        layers(torch.ones(1, 32)).sum().backward()
    assert live.gradients == 3 * KILO
    assert live.find_peak()[1] == 2 * KILO, "the third is whole only after its bytes were made"
    assert sum(live.find_peak(0.25)) <= sum(live.find_peak()) - 1.4 * KILO


def test_a_second_backward_pass_adds_to_the_first_gradients() -> None:
    layer = torch.nn.Linear(32, 32, bias=False)
    with LiveBytes(layer) as live:
        for _ in range(2):
            layer(torch.ones(1, 32)).sum().backward()
    assert live.gradients == KILO
    assert sum(live.find_peak()) >= 2 * KILO, "the first stays while the second is made"


def test_what_is_made_unseen_counts_only_while_it_stays() -> None:
    with LiveBytes() as live, live.ignore_peak():
        kept, lost = floats(), [floats() for _ in range(9)]
        del lost
    assert live.find_peak() == (KILO, 0)
    del kept


def test_operations_of_products_are_two_for_each_pair_of_numbers() -> None:
    with LiveBytes() as live:
        product = torch.ones(3, 4) @ torch.ones(4, 5)
        product.addmm_(torch.ones(3, 2), torch.ones(2, 5))
    assert live.flops == 2 * 3 * 4 * 5 + 2 * 3 * 2 * 5
