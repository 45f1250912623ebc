"""How many floating-point operations ED2LM spends on a pair, each way of computing it.

Two operations a weight and token in matrix products; norms, activations and softmax are left out, as is usual. What the
candidates of a query share is divided among them.
"""

from dataclasses import dataclass

from transformers import T5Config


@dataclass(frozen=True)
class Work:
    """One query's reranking. query: tokens; document: tokens each; documents: how many; pooling: tokens a state."""

    query: int
    document: int
    documents: int = 100
    pooling: int = 1
    kind: str = "true_false"

    @property
    def rows(self) -> int:
        """States that a document has."""
        return -(-self.document // self.pooling)

    @property
    def positions(self) -> int:
        """Tokens that the decoder reads: the start and the query, whose last token no likelihood needs read."""
        return self.query + (self.kind != "log_likelihood")

    @property
    def read(self) -> int:
        """Positions of the last layer that a score is read from."""
        return 1 if self.kind == "true_false" else self.positions


@dataclass(frozen=True)
class Shape:
    """Widths of a T5. d: states; a: all heads together; forward: weights of a feed-forward block."""

    d: int
    a: int
    heads: int
    forward: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    @classmethod
    def of(cls, config: T5Config) -> "Shape":
        """Return the widths of a configuration."""
        forward = (3 if config.is_gated_act else 2) * config.d_model * config.d_ff
        layers = config.num_layers, config.num_decoder_layers
        return cls(
            config.d_model, config.num_heads * config.d_kv, config.num_heads, forward, *layers, config.vocab_size
        )


def t5_encoder_flops(config: T5Config, tokens: int) -> float:
    """Return the operations of encoding a text of so many tokens."""
    s = Shape.of(config)
    return s.encoder_layers * (2 * tokens * (4 * s.d * s.a + s.forward) + 4 * tokens**2 * s.a)


def full_flops(config: T5Config, work: Work, words: bool = True) -> float:
    """Return the operations of a pair in transformers: encoder, decoder and, for `words`, the vocabulary everywhere."""
    s, t = Shape.of(config), work.query + 1
    layer = 2 * t * (6 * s.d * s.a + s.forward) + 4 * t**2 * s.a + 4 * work.rows * s.d * s.a + 4 * t * work.rows * s.a
    read = 2 * t * s.d * s.vocabulary if words else 2 * s.d
    return t5_encoder_flops(config, work.document) + s.decoder_layers * layer + read


def cross_attention_flops(config: T5Config, work: Work) -> float:
    """Return the operations of a pair whose query and document the encoder reads together; one token is decoded."""
    tokens, (fixed, per_token) = work.query + work.document, first_word_flops(config)
    return t5_encoder_flops(config, tokens) + fixed + per_token * tokens + 2 * config.d_model * config.vocab_size


def first_word_flops(config: T5Config) -> tuple[float, float]:
    """Return the operations of decoding one state, without the vocabulary: fixed ones, and those of a token encoded."""
    s = Shape.of(config)
    return s.decoder_layers * (2 * (6 * s.d * s.a + s.forward) + 4 * s.a), s.decoder_layers * 4 * (s.d + 1) * s.a


def decoder_flops(config: T5Config, work: Work, way: str) -> float:
    """Return the operations of a pair in `DecoderScorer`. way: one of `cross_attention.WAYS`."""
    s, t = Shape.of(config), work.positions
    total = 0.0
    for number in range(s.decoder_layers):
        out = work.read if number == s.decoder_layers - 1 else t
        shared = work.documents if number == 0 else 1  # the same for all documents until the first cross-attention
        total += (4 * out * s.d * s.a + 4 * t * s.d * s.a + 4 * out * t * s.a) / shared  # self-attention
        total += _cross(s, work.rows, out, way, shared)
        total += 2 * out * s.forward
    words = 2 * work.query * s.d * s.vocabulary if work.kind != "true_false" else 0
    return total + words + (2 * s.d if work.kind != "log_likelihood" else 0)


def _cross(s: Shape, rows: int, out: int, way: str, shared: int) -> float:
    """Return the operations of one layer's cross-attention from `out` positions to so many document states."""
    outer = 2 * out * s.d * s.a / shared + 2 * out * s.d * s.a  # the query's projection, and the output's
    if way == "absorbed":
        return outer + 2 * out * s.a * s.d / shared + 4 * out * s.heads * rows * s.d + 2 * out * s.d * s.a
    projected = 4 * rows * s.d * s.a if way == "on_the_fly" else 0
    return outer + projected + 4 * out * rows * s.a
