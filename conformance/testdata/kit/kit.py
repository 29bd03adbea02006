"""The function the tests use from Python: event["op"] says what it does. index.mjs
does the same for Node."""
import ctypes
import os
import platform
import signal
import socket
import subprocess
import sys
import time

calls = 0  # kept between calls of one container
kept = []  # what must not be collected


def attempt(f):
    try:
        return {"ok": True, "value": f()}
    except OSError as e:
        return {"ok": False, "error": errno_name(e.errno)}


def errno_name(number):
    import errno

    return errno.errorcode.get(number, str(number))


def read(event, _):
    def go():
        with open(event["path"], "rb") as f:
            return f.read(4096).decode("latin-1")

    return attempt(go)


def credentials(event, _):
    import json
    import urllib.error
    import urllib.request

    token = event.get("token", os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
    request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers={"Authorization": token})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        return json.load(refused)


def write(event, _):
    def go():
        with open(event["path"], "w") as f:
            f.write(event.get("text", ""))

    return attempt(go)


def run(event, _):
    try:
        r = subprocess.run(event["args"], capture_output=True, timeout=event.get("ms", 5000) / 1000)
    except OSError as e:
        return {"status": -1, "out": "", "error": errno_name(e.errno)}
    except subprocess.TimeoutExpired:
        return {"status": -1, "out": "", "error": "ETIMEDOUT"}
    return {"status": r.returncode, "out": (r.stdout + r.stderr).decode("latin-1"), "error": ""}


def connect(event, _):
    try:
        socket.create_connection((event["host"], event["port"]), event.get("ms", 1000) / 1000).close()
    except socket.timeout:
        return "timeout"
    except OSError as e:
        return errno_name(e.errno)
    return "connected"


def context(event, c):
    client = c.client_context
    return {
        "requestId": c.aws_request_id, "name": c.function_name, "version": c.function_version, "arn": c.invoked_function_arn,
        "memory": c.memory_limit_in_mb, "group": c.log_group_name, "stream": c.log_stream_name,
        "remaining": c.get_remaining_time_in_millis(), "trace": os.environ.get("_X_AMZN_TRACE_ID", ""),
        "client": None if client is None else {"custom": client.custom, "env": client.env},
    }


def throw(event, _):
    raise TypeError("boom")


def spin(event, _):
    while True:
        pass


def stubborn(event, _):
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    spin(event, _)


def eat(event, _):
    while True:
        kept.append(b"\x01" * (16 << 20))


def sleep(event, _):
    time.sleep(event["ms"] / 1000)
    return "slept"


def log(event, _):
    for line in event["lines"]:
        print(line)


def flood(event, _):
    line = b"y" * 1023 + b"\n"
    n = 0
    while n < event["bytes"]:
        n += os.write(1, line)
    return event["bytes"]


def close_host(event, _):
    os.close(3)
    return "closed"


def garbage(event, _):
    os.write(3, b"\xff" * 65536)
    return "written"


def fork(event, _):
    n = 0
    try:
        while n < 3000:
            if os.fork() == 0:
                time.sleep(1000)
                os._exit(0)
            n += 1
    except OSError:
        pass
    return n


def fill(event, _):
    chunk = b"\x01" * (4 << 20)
    n = 0
    try:
        with open("/tmp/fill", "wb", buffering=0) as f:
            while n < 1 << 30:
                n += f.write(chunk)
    except OSError as e:
        return {"bytes": n, "error": errno_name(e.errno)}
    return {"bytes": n, "error": ""}


def call(event, _):
    """Make a raw C library call: name and arguments."""
    libc = ctypes.CDLL(None, use_errno=True)
    args = [a.encode() if isinstance(a, str) else a for a in event["args"]]
    result = getattr(libc, event["name"])(*args)
    return {"result": result, "error": errno_name(ctypes.get_errno()) if result == -1 else ""}


ops = {
    "echo": lambda e, _: e.get("value"),
    "nothing": lambda e, _: None,
    "calls": lambda e, _: calls,
    "env": lambda e, _: dict(os.environ),
    "credentials": credentials,
    "version": lambda e, _: platform.python_version(),
    "context": context,
    "throw": throw,
    "reject": throw,
    "exit": lambda e, _: sys.exit(e["status"]),
    "crash": lambda e, _: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": sleep,
    "spin": spin,
    "stubborn": stubborn,
    "eat": eat,
    "big": lambda e, _: "x" * e["bytes"],
    "log": log,
    "flood": flood,
    "read": read,
    "list": lambda e, _: attempt(lambda: sorted(os.listdir(e["path"]))),
    "write": write,
    "run": run,
    "connect": connect,
    "closeHost": close_host,
    "garbage": garbage,
    "fork": fork,
    "fill": fill,
    "call": call,
}


def handler(event, context):
    global calls
    calls += 1
    return ops[event["op"]](event, context)
