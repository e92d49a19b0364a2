"""Any request at all, for properties that must hold for every one."""

from typing import Any

from hypothesis import strategies as st

from apixo_async.veo import (
    ExtendVideo,
    FramesToVideo,
    ModelRequest,
    ReferenceToVideo,
    Request,
    TextToVideo,
)

OWN_FIELDS = (
    "prompt",
    "mode",
    "generationType",
    "aspect_ratio",
    "image_urls",
    "seed",
    "watermark",
    "taskId",
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)

prompts = st.text(min_size=1, max_size=50)
urls = st.text("abc/._-%?=&", min_size=1, max_size=20).map("https://example.com/".__add__)
ids = st.text("abcdef0123456789_", min_size=1, max_size=40)
modes = st.sampled_from(["quality", "fast"])
ratios = st.sampled_from(["16:9", "9:16", "auto"])
common: dict[str, Any] = {
    "seed": st.none() | st.integers(),
    "watermark": st.none() | st.text(max_size=10),
    "provider": st.sampled_from([None, "auto", "value", "official"]),
    "extra_input": json_objects.map(
        lambda extra: {name: value for name, value in extra.items() if name not in OWN_FIELDS}
    ),
}

text_requests = st.builds(TextToVideo, prompts, mode=modes, aspect_ratio=ratios, **common)
frames_requests = st.builds(
    FramesToVideo,
    prompts,
    first_frame=urls,
    last_frame=st.none() | urls,
    mode=modes,
    aspect_ratio=ratios,
    **common,
)
reference_requests = st.builds(
    ReferenceToVideo, prompts, image_urls=st.lists(urls, min_size=1, max_size=3), **common
)
extend_requests = st.builds(ExtendVideo, prompts, task_id=ids, mode=modes, **common)
model_requests = st.builds(ModelRequest, ids, json_objects, provider=common["provider"])

veo_requests: st.SearchStrategy[Request] = st.one_of(
    text_requests, frames_requests, reference_requests, extend_requests
)
requests: st.SearchStrategy[Request] = st.one_of(veo_requests, model_requests)
