"""What the networks compute, in the plainest way: one text, one sequence, nothing padded, packed, cached or shared."""

from collections.abc import Sequence

import torch
from torch import Tensor

from service.model.composed import Composed
from service.model.encoder_decoder import EncoderDecoder
from service.model.encoding import EncodedText
from service.model.network import Network
from service.model.prefix_lm import PrefixLM


def next_log_probs(network: Network, text: EncodedText, written: Sequence[int], label: int | None = None) -> Tensor:
    """log P(next token | text, cue, what is written), all of it read anew. -> (vocab,) float64."""
    given = label if network.conditioning == "label" else None
    read = [*network.cues[given or 0], *written]
    if isinstance(network, EncoderDecoder):
        logits = _encoder_decoder(network, text.ids, read)
    elif isinstance(network, Composed):
        logits = _composed(network, text, read)
    else:
        assert isinstance(network, PrefixLM)
        logits = _prefix_lm(network, text.ids, read)
    return torch.log_softmax(logits[0, -1].double(), dim=-1)


def log_probs(network: Network, text: EncodedText, tokens: Sequence[int], label: int | None = None) -> list[float]:
    """log P of each token of an explanation, the decoder fed one prefix after the other."""
    return [next_log_probs(network, text, tokens[:t], label)[token].item() for t, token in enumerate(tokens)]


def score(network: Network, text: EncodedText, tokens: Sequence[int], label: int | None = None) -> float:
    """Eq. 6: the mean of these."""
    return sum(log_probs(network, text, tokens, label)) / len(tokens)


def _encoder_decoder(network: EncoderDecoder, text: Sequence[int], read: Sequence[int]) -> Tensor:
    logits: Tensor = network.backbone(
        input_ids=torch.tensor([text]),
        decoder_input_ids=torch.tensor([read]),
        decoder_attention_mask=torch.ones(1, len(read), dtype=torch.long),
    ).logits
    return logits


def _composed(network: Composed, text: EncodedText, read: Sequence[int]) -> Tensor:
    """The opening, the encoder's states normalised and projected, the text, what is read: all embeddings of one row."""
    model = network.backbone
    states = model.encoder(input_ids=torch.tensor([text.ids])).last_hidden_state[0]
    centred = states - states.mean(dim=1, keepdim=True)
    normal = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    soft = normal @ model.bridge.weight.T + model.bridge.bias
    embeddings = model.decoder.get_input_embeddings()(torch.tensor([*text.decoder_ids, *read]))
    parts = [soft, embeddings]
    if network.opening:
        parts.insert(0, model.decoder.get_input_embeddings()(torch.tensor(network.opening)))
    logits: Tensor = model.decoder(inputs_embeds=torch.cat(parts).unsqueeze(0), use_cache=False).logits
    return logits


def _prefix_lm(network: PrefixLM, text: Sequence[int], read: Sequence[int]) -> Tensor:
    """One mask over text and all that follows: the text in both directions, the rest causal."""
    length = len(text) + len(read)
    hidden = torch.zeros(length, length)
    for query in range(length):
        for key in range(length):
            both_in_text = query < len(text) and key < len(text)
            if key > query and not both_in_text:
                hidden[query, key] = torch.finfo(torch.float32).min
    logits: Tensor = network.backbone(
        input_ids=torch.tensor([[*text, *read]]), attention_mask=hidden[None, None], use_cache=False
    ).logits
    return logits
