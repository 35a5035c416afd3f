"""Settings that generators share, each with its bounds and its line of explanation."""

from typing import Annotated

from pydantic import Field

from ship.configs.prompt import NamePosition

NCtx = Annotated[
    int,
    Field(
        ge=0,
        description="learned context vectors in the prompt (L); 0 (prompt instance_bias): the bias "
        "is added to the class name's tokens",
    ),
]
CtxInit = Annotated[
    str | None,
    Field(min_length=1, description="words the contexts start from; null: random, N(0, 0.02)"),
]
Position = Annotated[
    NamePosition, Field(description="where the class name stands among the contexts")
]
LatentDim = Annotated[int, Field(ge=1, description="size of z")]
GeneratorHidden = Annotated[
    int, Field(ge=1, description="hidden units from z to the prompt (mlp_vae: to the feature)")
]
EncoderHidden = Annotated[int, Field(ge=1, description="hidden units of q(z|x)")]
KLWeight = Annotated[float, Field(ge=0, description="weight of the KL term; reference: 1")]
KLWarmup = Annotated[
    int, Field(ge=0, description="epochs in which the KL weight grows from 0, linearly")
]
FreeBits = Annotated[
    float, Field(ge=0, description="nats of KL that each latent dimension has for free")
]
Patience = Annotated[
    int | None,
    Field(
        ge=1,
        description="epochs without a better held-out ELBO before a seed stops; null: never",
    ),
]
LearningRate = Annotated[float, Field(gt=0, description="AdamW's learning rate")]
WeightDecay = Annotated[float, Field(ge=0, description="AdamW's weight decay")]
Epochs = Annotated[int, Field(ge=1, description="passes over the base features")]
BatchSize = Annotated[int, Field(ge=1, description="features a step")]
