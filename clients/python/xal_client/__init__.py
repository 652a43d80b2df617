"""Client of the XAL service: labels, written explanations, and which texts to ask a label for first.

Example::

    from xal_client import XalClient

    with XalClient("http://localhost:3000") as xal:
        print(xal.explain(["too heavy to carry"])[0])
"""

from xal_client.async_client import AsyncXalClient
from xal_client.client import XalClient
from xal_client.errors import (
    APIStatusError,
    BadRequest,
    ConnectionFailed,
    ContentTooLarge,
    DeadlineExceeded,
    Fault,
    InternalServerError,
    MethodNotAllowed,
    ModelChanged,
    NotFound,
    Problem,
    ServiceUnavailable,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
    UnprocessableContent,
    UnsupportedMediaType,
    XalClientError,
)
from xal_client.items import Item
from xal_client.model_info import Decoding, Limits, ModelInfo
from xal_client.results import (
    Acquisition,
    AcquisitionResponse,
    Classification,
    ClassifyResponse,
    ExplainResponse,
    Explanation,
    ItemError,
    ItemFailure,
    Response,
)
from xal_client.version import __version__

__all__ = [
    "APIStatusError",
    "Acquisition",
    "AcquisitionResponse",
    "AsyncXalClient",
    "BadRequest",
    "Classification",
    "ClassifyResponse",
    "ConnectionFailed",
    "ContentTooLarge",
    "DeadlineExceeded",
    "Decoding",
    "ExplainResponse",
    "Explanation",
    "Fault",
    "InternalServerError",
    "Item",
    "ItemError",
    "ItemFailure",
    "Limits",
    "MethodNotAllowed",
    "ModelChanged",
    "ModelInfo",
    "NotFound",
    "Problem",
    "Response",
    "ServiceUnavailable",
    "TimedOut",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedResponse",
    "UnprocessableContent",
    "UnsupportedMediaType",
    "XalClient",
    "XalClientError",
    "__version__",
]
