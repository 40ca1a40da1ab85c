"""Google's object store on this machine: the part of its interface that clients of it use here.

Written from https://cloud.google.com/storage/docs/json_api. What asks it is real: gcsfs, Orbax,
TensorStore, ArrayRecord: each takes another address from the environment. Objects are
whole or absent; nothing is appended or locked; a folder is no more than what names begin with.
"""

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse

BUCKET = "ecg"
URL = f"gs://{BUCKET}"
_ABSENT = 404, {"error": {"code": 404, "message": "Not Found"}}
_CONDITION = 412, {"error": {"code": 412, "message": "conditionNotMet"}}


class Objects:
    """The content of the bucket by name, and what was asked of it."""

    def __init__(self):
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.forbidden: str | None = None
        self._generation: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._uploads: list = []
        self._lock = threading.Lock()

    def put(self, name, content, query=None):
        """Returns status and answer."""
        with self._lock:
            expected = (query or {}).get("ifGenerationMatch")
            if expected is not None and int(expected) != self._generation.get(name, 0):
                return _CONDITION
            self.content[name], self._generation[name] = content, next(self._numbers)
            return 200, self.described(name)

    def put_folder(self, folder, prefix):
        """Copies a folder of this machine, and returns its URL."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{URL}/{prefix}"

    def get_folder(self, prefix, folder):
        """Copies a folder to this machine, and returns where it is."""
        for name, content in list(self.content.items()):
            if name.startswith(f"{prefix}/"):
                path = folder / name.removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return folder

    def get(self, name):
        """Returns content and generation, which belong together; None of what is absent."""
        with self._lock:
            return self.content.get(name), str(self._generation.get(name))

    def remove(self, name):
        with self._lock:
            self._generation.pop(name, None)
            self.content.pop(name, None)

    def described(self, name):
        content, generation = self.content[name], str(self._generation[name])
        return {
            "kind": "storage#object",
            "id": f"{BUCKET}/{name}/{generation}",
            "bucket": BUCKET,
            "name": name,
            "size": str(len(content)),
            "generation": generation,
            "metageneration": "1",
            "etag": generation,
            "contentType": "application/octet-stream",
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
        }

    def listed(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        with self._lock:
            for name in sorted(n for n in self.content if n.startswith(prefix)):
                rest = name.removeprefix(prefix)
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    items.append(self.described(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}

    def uploaded(self, query, body, kind):
        """Takes an object whole, with its description, or opens a session for its parts."""
        if query["uploadType"] == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', kind)[1].encode()
            about, part = (
                part.lstrip(b"\r\n").split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
                for part in body.split(b"--" + boundary)[1:3]
            )
            return self.put(query.get("name") or json.loads(about)["name"], part, query)
        if query["uploadType"] == "media":
            return self.put(query["name"], body, query)
        self._uploads.append([query.get("name") or json.loads(body)["name"], query, b""])
        return len(self._uploads) - 1

    def continued(self, number, body, place):
        """Takes a part of an object; it is there once its last part is."""
        upload = self._uploads[number]
        upload[2] += body
        total = place.rpartition("/")[2]
        if total in ("", "*") and place or total.isdigit() and len(upload[2]) < int(total):
            held = len(upload[2])
            return 308, {}, {"Range": f"bytes=0-{held - 1}"} if held else {}
        return self.put(upload[0], upload[2], upload[1])


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer_any(self):
        split = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        objects = self.server.objects
        objects.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        if objects.forbidden and objects.forbidden in urllib.parse.unquote(self.path):
            answer = 403, {"error": {"code": 403, "message": "may not"}}
        elif split.path.startswith("/upload/"):
            answer = self.uploaded(split.path, query, body)
        else:
            answer = self.found(split.path, query)
        status, content, *headers = answer
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers[0] if headers else {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = answer_any

    def uploaded(self, path, query, body):
        objects = self.server.objects
        if path.split("/")[5] != BUCKET:
            return _ABSENT
        if "upload_id" in query:
            place = self.headers.get("Content-Range", "")
            return objects.continued(int(query["upload_id"]), body, place)
        answer = objects.uploaded(query, body, self.headers.get("Content-Type", ""))
        if isinstance(answer, int):
            session = f"uploadType=resumable&upload_id={answer}"
            return 200, {}, {"Location": f"http://{self.headers['Host']}{path}?{session}"}
        return answer

    def found(self, path, query):
        objects = self.server.objects
        place = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(/o)?(?:/(.*))?", path)
        if place is None or place[1] != BUCKET:
            return _ABSENT
        if not place[2]:
            return 200, {"kind": "storage#bucket", "id": BUCKET, "name": BUCKET}
        if place[3] is None:
            return 200, objects.listed(query)
        move = re.fullmatch(r"(.+)/moveTo/o/(.+)", place[3])
        name = urllib.parse.unquote(move[1] if move else place[3])
        content, generation = objects.get(name)
        if content is None:
            return _ABSENT
        if move:
            answer = objects.put(urllib.parse.unquote(move[2]), content, query)
            objects.remove(name)
            return answer
        if self.command == "DELETE":
            objects.remove(name)
            return 204, b""
        if query.get("alt") != "media":
            return 200, objects.described(name)
        status, part, *headers = self.part_of(content)
        return status, part, dict(*headers) | {"x-goog-generation": generation}

    def part_of(self, content):
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, content
        first, last = (int(text) if text else None for text in wanted.groups())
        if first is None:  # So many from the end.
            first, last = max(len(content) - last, 0), None
        last = len(content) - 1 if last is None else min(last, len(content) - 1)
        if first > last:
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}
        place = f"bytes {first}-{last}/{len(content)}"
        return 206, content[first : last + 1], {"Content-Range": place}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # A client that was killed, or that reads no further.


@contextlib.contextmanager
def serving():
    """Gives the objects of a store, and the environment that has clients use it."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.objects = Objects()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        environment = {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs, Orbax
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": url,  # ArrayRecord
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_CLOUD_PROJECT": "none",
            # Asks another service, which has no address of its own to set, for the bucket's kind.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        try:
            yield server.objects, environment
        finally:
            server.shutdown()
            thread.join()
