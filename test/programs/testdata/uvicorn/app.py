import os

RELEASE = os.environ.get("RELEASE", "").encode()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3"), (b"x-worker-version", RELEASE)]})
    await send({"type": "http.response.body", "body": b"ok\n"})
