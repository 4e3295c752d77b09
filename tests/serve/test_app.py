import base64
import io
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw
from serve.conftest import CLASSES, Brightness, base64_of, picture

from lightning_cnn.data.facts import Framing

JSON = {"Content-Type": "application/json"}


def predict(client, *images, **options):
    return client.post("/predict", json={"images": [base64_of(image) for image in images], **options})


def detail(response) -> str:
    """The only content of a refusal, one line."""
    content = response.json()
    assert list(content) == ["detail"] and "\n" not in content["detail"]
    return content["detail"]


def test_an_image_in_json(serve):
    response = predict(serve(), picture(255), top_k=2)

    assert response.status_code == 200
    assert response.json() == {
        "model": "brightness",
        "predictions": [
            {
                "label": "light",
                "confidence": 1.0,
                "top_k": [{"label": "light", "probability": 1.0}, {"label": "dark", "probability": 0.0}],
                "unclear": "",
            }
        ],
    }


def test_many_images_in_a_form_are_answered_in_their_order(serve):
    files = [("images", (f"{i}.png", picture(level))) for i, level in enumerate((255, 0, 128))]

    response = serve().post("/predict", files=files, data={"top_k": "1", "seen": "false"})

    found = response.json()["predictions"]
    assert [prediction["label"] for prediction in found] == ["light", "dark", "grey"]
    assert [prediction["unclear"] for prediction in found] == ["", "", "low confidence"]
    assert found[2]["confidence"] == pytest.approx(0.5, abs=1e-4)
    assert [len(prediction["top_k"]) for prediction in found] == [1, 1, 1]


def test_json_and_form_agree(serve):
    client, image = serve(), picture(200, kind="JPEG", mode="RGB")

    in_json = predict(client, image, seen=True).json()

    assert client.post("/predict", files={"images": image}, data={"seen": "true"}).json() == in_json
    as_url = {"images": [f"data:image/jpeg;base64,{base64_of(image)}"], "seen": True}
    assert client.post("/predict", json=as_url).json() == in_json


def test_what_the_network_has_seen_is_sent_as_png(serve):
    digit = Image.new("L", (100, 100), "white")
    ImageDraw.Draw(digit).line((50, 20, 50, 80), fill="black", width=8)
    file = io.BytesIO()
    digit.save(file, "PNG")
    client = serve({"mnist": Brightness(Framing()), "color": Brightness(channels=3)})

    seen = predict(client, file.getvalue(), seen=True).json()["predictions"][0]["seen"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(seen["png"]))))
    assert (seen["width"], seen["height"], pixels.shape) == (28, 28, (28, 28))
    assert pixels[4:24].any(axis=1).all() and not pixels[:4].any()  # 20 pixels high, light on black
    color = predict(client, file.getvalue(), seen=True, model="color").json()["predictions"][0]["seen"]
    assert Image.open(io.BytesIO(base64.b64decode(color["png"]))).mode == "RGB"


def test_a_model_is_named_or_the_first(serve):
    client = serve({"first": Brightness(), "second": Brightness()})

    assert predict(client, picture()).json()["model"] == "first"
    assert predict(client, picture(), model="second").json()["model"] == "second"
    refused = predict(client, picture(), model="third")
    assert refused.status_code == 404
    assert detail(refused) == "there is no model 'third'; choose from first, second"


def test_models_and_limits_are_told(serve):
    answer = serve(max_images=7).get("/info").json()

    assert answer["limits"]["max_images"] == 7
    assert answer["models"] == [
        {
            "name": "brightness",
            "class_names": CLASSES,
            "image_shape": [1, 28, 28],
            "framing": {"size": [28, 28], "mode": "crop", "channels": 1},
        }
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b"{}", "images: Field required"),
        (b'{"images": []}', "images: List should have at least 1 item"),
        (b'{"images": "AAAA"}', "images: Input should be a valid array"),
        (b'{"images": [1]}', "images[0]: Input should be a valid string"),
        (b'{"images": [""]}', "images[0]: String should have at least 1 character"),
        (b'{"images": ["AAAA", "A"]}', "images[1]: not base64"),
        ('{"images": ["ä"]}'.encode(), "images[0]: not base64"),
        (b'{"images": ["AAAA"]}', "images[0]: not an image; PNG, JPEG"),
        (b'{"images": ["data:,"]}', "images[0]: empty; send the whole file"),
        (b'{"images": ["AAAA"], "image": 1}', "image: Extra inputs are not permitted"),
        (b'{"images": ["AAAA"], "top_k": 0}', "top_k: Input should be greater than or equal to 1"),
        (b'{"images": ["AAAA"], "top_k": "3"}', "top_k: Input should be a valid integer"),
        (b'{"images": ["AAAA"], "top_k": 1e400}', "top_k: "),
        (b'{"images": ["AAAA"], "seen": 1}', "seen: Input should be a valid boolean"),
        (b'{"images": ["AAAA"], "model": 1}', "model: Input should be a valid string"),
    ],
)
def test_wrong_json_is_refused_in_one_line(serve, body, message):
    response = serve().post("/predict", content=body, headers=JSON)

    assert response.status_code == 422
    assert detail(response).startswith(message)


@pytest.mark.parametrize(
    ("files", "data", "status", "message"),
    [
        ([], {"top_k": "1"}, 422, "images: send at least one file of this name"),
        ([], {"images": "AAAA"}, 422, "images: send at least one file of this name"),
        ([("image", picture())], {}, 422, "there is no field 'image'; choose from images, model, top_k, seen"),
        ([("images", picture())], {"top_k": "x"}, 422, "top_k: Input should be a valid integer"),
        ([("images", picture())], {"seen": "x"}, 422, "seen: Input should be a valid boolean"),
        ([("images", picture()), ("seen", picture())], {}, 422, "seen: "),
        ([("images", b"")], {}, 422, "images[0]: empty; send the whole file"),
        ([("images", picture())] * 3, {}, 422, "3 images, more than 2; send several requests"),
        ([("images", picture())] * 9, {}, 400, "Too many files"),
    ],
)
def test_a_wrong_form_is_refused_in_one_line(serve, files, data, status, message):
    boundary = {"files": files} if files else {"headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in data.items())
    content = {"data": data} if files else {"content": f"{body}--x--\r\n"}

    response = serve(max_images=2).post("/predict", **boundary, **content)

    assert response.status_code == status
    assert detail(response).startswith(message)


def test_a_field_in_the_address_is_refused(serve):
    response = serve().post("/predict?seen=true", files=[("images", picture())])

    assert response.status_code == 422
    assert detail(response) == "'seen' is in the address, where it has no effect; send it as a field of the body"


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_a_damaged_form_is_refused(serve, kind):
    response = serve().post("/predict", content=b"--x\r\nnonsense", headers={"Content-Type": kind})

    assert response.status_code == 400
    assert detail(response)


@pytest.mark.parametrize("kind", ["", "text/plain", "image/png", "application/x-www-form-urlencoded"])
def test_other_content_is_refused(serve, kind):
    response = serve().post("/predict", content=picture(), headers={"Content-Type": kind})

    assert response.status_code == 415
    assert "application/json" in detail(response)


def test_a_body_that_is_too_large_is_refused(serve):
    client = serve(max_bytes=1_000)

    announced = client.post("/predict", content=bytes(1_001), headers=JSON)
    in_parts = client.post("/predict", content=(bytes(100) for _ in range(11)), headers=JSON)

    assert announced.status_code == in_parts.status_code == 413
    assert detail(announced) == detail(in_parts)
    assert detail(announced) == "the request has more than 1,000 bytes; send smaller or fewer images"
    assert client.post("/predict", content=bytes(1_000), headers=JSON).status_code == 422


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_a_decoding_bomb_is_refused_before_it_is_decoded(serve, kind):
    bomb = picture(0, size=(5_000, 5_001), kind=kind, mode="RGB" if kind == "WEBP" else "L")
    started = time.process_time()

    response = predict(serve(), bomb)

    assert response.status_code == 422
    assert detail(response) == "images[0]: more than 25,000,000 pixels; save it in a smaller size"
    assert time.process_time() - started < 1


@pytest.mark.parametrize("content", [b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(100), picture()[:60], b"%PDF-1.7\n"])
def test_a_damaged_image_is_named_by_its_number(serve, content):
    response = predict(serve(), picture(), content)

    assert response.status_code == 422
    assert detail(response).startswith("images[1]: ")


def test_an_image_without_anything_in_it_is_refused(serve):
    response = predict(serve({"mnist": Brightness(Framing())}), picture(255))

    assert response.status_code == 422
    assert detail(response).startswith("images[0]: blank")


class Broken(Brightness):
    def probabilities(self, images):
        raise RuntimeError("secret")


class NotANumber(Brightness):
    def probabilities(self, images):
        return np.full((len(images), 3), np.nan, np.float32)


@pytest.mark.parametrize(("model", "message"), [(Broken(), "its log says why"), (NotANumber(), "NaN or infinite")])
def test_a_failure_of_the_server_is_one_line_without_a_traceback(serve, model, message):
    client = serve({"broken": model})

    response = predict(client, picture())

    assert response.status_code == 500
    assert message in detail(response) and "secret" not in response.text
    assert 'path="/predict",status="500"} 1.0' in client.get("/metrics").text


def test_other_paths_and_methods_are_refused_in_one_line(serve):
    client = serve()

    assert detail(client.get("/nothing")) == "there is nothing here; /docs describes the server"
    assert client.get("/page/../app.py").status_code == client.get("/page/%2e%2e/app.py").status_code == 404
    response = client.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert detail(response) == "GET is not allowed here; /docs describes the server"


def test_a_key_is_needed_for_all_but_the_pages_and_health(serve):
    client = serve(key="s3cret")

    for right in ({"Authorization": "Bearer s3cret"}, {"Authorization": "bearer s3cret"}):
        assert client.get("/info", headers=right).status_code == 200
    for wrong in (
        {},
        {"Authorization": "Bearer s3cre"},
        {"Authorization": "Basic s3cret"},
        {"Authorization": b"Bearer \xe9"},
    ):
        for response in (
            client.get("/info", headers=wrong),
            client.get("/metrics", headers=wrong),
            client.post("/predict", headers=wrong),
        ):
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert detail(response) == "send the key of the server as `Authorization: Bearer KEY`"
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/openapi.json").status_code == client.get("/docs").status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:80", "127.0.0.2:80", "[::1]", "[::1]:8000"]
)
def test_names_of_this_machine_are_answered(serve, host):
    assert serve().get("/info", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "", ":", "a:b:c"]
)
def test_other_names_are_refused_on_loopback_without_a_key(serve, host):
    response = serve().get("/info", headers={"Host": host})

    assert response.status_code == 403
    assert "LIGHTNING_CNN_API_KEY" in detail(response)
    assert serve(local=False).get("/info", headers={"Host": host}).status_code == 200
    right = {"Host": host, "Authorization": "Bearer s3cret"}
    assert serve(key="s3cret").get("/info", headers=right).status_code == 200


def test_browsers_are_told_to_load_nothing_from_elsewhere(serve):
    for path in ("/info", "/docs", "/nothing", "/page/style.css"):
        headers = serve().get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
