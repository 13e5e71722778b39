"""Averages of weights, against naive float64 and by hand; networks that do not fit are refused by name."""

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.folds.soup import check_same_tensors, greedy_soup, mean_state, rank
from src.inference import Protocol, predict_scores
from src.models.ensemble import Ensemble
from src.models.network import Network
from tests.support.small import Small

NAN = float("nan")


def state(seed: int, **options: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return Network(Small(**options), [0.5] * 3, [0.25] * 3).state_dict()


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mean_of_copies_is_bitwise_the_copy(count: int, dtype: torch.dtype) -> None:
    one = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state(0).items()}
    one["extreme"] = torch.tensor([0.1, -0.0, 3e-45, 6e4, 1 / 3]).to(dtype)
    mean = mean_state([one] * count)
    assert mean.keys() == one.keys()
    for name, value in one.items():
        assert mean[name].dtype == value.dtype
        assert bits(mean[name]) == bits(value), name
        assert mean[name].data_ptr() != value.data_ptr(), "a tensor of its own"


def test_the_mean_is_that_of_float64() -> None:
    states = [state(seed) for seed in range(5)]
    mean = mean_state(states)
    for name, value in mean.items():
        if value.is_floating_point():
            naive = np.mean([each[name].double().numpy() for each in states], axis=0, dtype=np.float64)
            assert np.array_equal(value.numpy(), naive.astype(np.float32)), name
    weight = "architecture.encoder.0.weight"
    assert mean[weight].stride() == states[0][weight].stride(), "the memory format stays"


def test_rounding_does_not_add_up() -> None:
    """In float32 the small ones would vanish beside the large one, in float16 the sum would be infinite."""
    values = [1.0, *[2.0**-24] * 15]
    mean = mean_state([{"w": torch.tensor([value])} for value in values])["w"]
    assert mean.item() == np.float32(sum(values) / 16)
    halves = [{"w": torch.tensor([value], dtype=torch.float16)} for value in (32768.0, 49152.0)]
    assert mean_state(halves)["w"].item() == 40960


def test_counters_are_those_of_the_first() -> None:
    first, second = state(0), state(1)
    name = "architecture.encoder.1.num_batches_tracked"
    first[name], second[name] = torch.tensor(7), torch.tensor(8)
    mean = mean_state([first, second])[name]
    assert mean.dtype == torch.int64
    assert mean.item() == 7
    mean += 1
    assert first[name].item() == 7


def test_networks_that_do_not_fit_are_refused_by_name() -> None:
    check_same_tensors(("runs/a", state(0)), ("runs/b", state(1)))
    with pytest.raises(ValueError, match=r"runs/a and runs/b are different architectures: architecture"):
        check_same_tensors(("runs/a", state(0)), ("runs/b", state(2, batchnorm=False)))
    wide = {**state(0), "architecture.head.4.bias": torch.zeros(3)}
    with pytest.raises(
        ValueError,
        match=r"runs/a and runs/b are different architectures: architecture.head.4.bias is 11 and 3; average",
    ):
        check_same_tensors(("runs/a", state(0)), ("runs/b", wide))
    more = {**state(0), "other": torch.tensor(1)}
    with pytest.raises(ValueError, match=r"runs/a and runs/b .* other is absent and a number"):
        check_same_tensors(("runs/a", state(0)), ("runs/b", more))


def test_ranks() -> None:
    assert rank([NAN, 0.2, 0.5, NAN, 0.5, 0.9]) == [5, 2, 4, 1, 0, 3]


@pytest.mark.parametrize(
    ("scores", "members"),
    [
        ({(2,): 0.5, (0, 2): 0.6, (0, 1, 2): 0.55}, (0, 2)),
        ({(2,): 0.5, (0, 2): 0.4, (1, 2): 0.5}, (1, 2)),  # as good is good enough
        ({(2,): 0.5, (0, 2): 0.4, (1, 2): 0.49}, (2,)),
        ({(2,): 0.5, (0, 2): NAN, (1, 2): 0.7}, (1, 2)),
    ],
)
def test_a_member_joins_unless_the_score_falls(scores: dict, members: tuple[int, ...]) -> None:
    asked = []

    def score(tried: tuple[int, ...]) -> float:
        asked.append(tried)
        return scores[tried]

    assert greedy_soup([2, 0, 1], score) == members
    assert set(asked) == set(scores), "nothing else is tried"


@torch.no_grad()
def whole_of(network: Network, image: torch.Tensor) -> torch.Tensor:
    logits = network(image)[0]
    return torch.nn.functional.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False).softmax(1)


def test_networks_of_other_images_are_no_ensemble() -> None:
    networks = [Network(Small(), [0.5] * channels, [0.25] * channels) for channels in (3, 4)]
    with pytest.raises(UserError, match="the networks of an ensemble take images of 3 and 4 channels"):
        Ensemble(networks)


def test_probabilities_of_several_networks_are_averaged() -> None:
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(Network(Small(), [0.5] * 3, [0.25] * 3).eval())
    image = torch.randint(0, 256, (2, 3, 21, 30), dtype=torch.uint8)
    protocol = Protocol(flip=True)
    with torch.no_grad():
        scores = predict_scores(Ensemble(networks), image, protocol)
        expected = sum(predict_scores(network, image, protocol).exp() for network in networks) / 3
        single = predict_scores(Ensemble(networks[:1]), image, Protocol())
        torch.testing.assert_close(single, predict_scores(networks[0], image, Protocol()), rtol=0, atol=0)
        even = torch.randint(0, 256, (1, 3, 20, 32), dtype=torch.uint8)
        whole = Ensemble(networks)(even)[0].exp()
        torch.testing.assert_close(whole, torch.stack([whole_of(network, even) for network in networks]).mean(0))
    torch.testing.assert_close(scores.exp(), expected)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(2, 21, 30))
