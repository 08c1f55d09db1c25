import numpy as np
import torch

from luminanet.gpt2 import Gpt2Config, forward
from training.baselines.gpt2 import Gpt2

CONFIG = Gpt2Config(vocab_size=50, context=16, width=32, heads=4, layers=2)


def test_torch_and_the_reference_give_the_same_logits() -> None:
    model = Gpt2(CONFIG, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tokens = np.random.default_rng(0).integers(0, 50, (2, 16))
    expected = forward(model.freeze(), tokens)
    assert np.abs(model(torch.from_numpy(tokens)).detach().numpy() - expected).max() <= 1e-4


def test_it_starts_as_gpt2_does() -> None:
    net = Gpt2(CONFIG, seed=1).freeze()
    assert abs(net.tensors["wte.weight"].std() - 0.02) < 0.002
    assert abs(net.tensors["h.0.mlp.c_proj.weight"].std() - 0.01) < 0.001
    assert (net.tensors["ln_f.weight"] == 1).all()
    assert not net.tensors["h.1.attn.c_attn.bias"].any()
