import os


def app(environ, start_response):
    environ["wsgi.input"].read()
    body = (os.environ.get("RELEASE", "") + "\n").encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Worker-Version", os.environ.get("RELEASE", ""))])
    return [body]
