"""What clients send and get, as it is described to them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: The classes of a prediction that are answered if the request does not say how many.
TOP_K = 3


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One line: what was wrong, and the way out")


class Options(BaseModel):
    """How images are classified."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="One of the names that /info lists; the first one if it is left out")
    top_k: int = Field(TOP_K, ge=1, le=1_000, description="How many classes to answer with, the most likely first")
    seen: bool = Field(False, description="Whether to answer with the image that the network has seen")


class Question(Options):
    """Images to classify."""

    images: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        min_length=1, description="Image files, each in base64; a data: URL is accepted as well"
    )


class Share(BaseModel):
    """A class and its probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class Seen(BaseModel):
    """The input of the network."""

    width: int
    height: int
    png: str = Field(description="A PNG file in base64")


class Prediction(BaseModel):
    """The prediction for an image."""

    label: str = Field(description="The most likely class")
    confidence: float = Field(ge=0, le=1, description="The probability that the network gives it")
    top_k: list[Share]
    unclear: str = Field(description="Why the answer may be wrong, or an empty text")
    seen: Seen | None = None


class Answer(BaseModel):
    """The predictions of a request, in the order of its images."""

    model: str
    predictions: list[Prediction]


class ModelInfo(BaseModel):
    """A model."""

    name: str
    class_names: list[str]
    image_shape: tuple[int, int, int] = Field(description="Channels, height and width of the input of the network")
    framing: dict[str, object] = Field(description="How images become inputs of the network")


class LimitsInfo(BaseModel):
    """What a request may be."""

    max_bytes: int
    max_images: int
    max_pixels: int
    max_waiting: int
    timeout: float


class Info(BaseModel):
    """The server."""

    version: str
    models: list[ModelInfo]
    limits: LimitsInfo


class Health(BaseModel):
    """The server answers."""

    status: str
