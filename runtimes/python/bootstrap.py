"""The Python bootstrap of lambent.

It runs one function inside a sandbox and talks to the host over file
descriptor 3, in the frames that internal/runtimeapi/frame describes. What the
function sees is AWS's Python runtime: handler forms, context, error JSON, log
format.

The process is started before anybody knows whose function it will run. It
imports what takes time, says BOOTED, and waits for ASSIGN. Then it answers one
EVENT after the other; the answer and READY go out in one write.

The user's code shares this process and could break everything in here. The host
trusts nothing of it; this file only keeps honest code from accidents.
"""

import builtins
import datetime
import decimal
import importlib
import json
import logging
import math
import os
import sys
import time
import traceback
import types

HOST_FD = 3
ASSIGN, EVENT, PING = 0x01, 0x02, 0x03
BOOTED, READY, INIT_ERROR, RESPONSE, ERROR = 0x10, 0x11, 0x12, 0x13, 0x14
READY_FRAME = b"\x01\x00\x00\x00\x11"
MAX_PAYLOAD = 6 * 1024 * 1024 + 100  # AWS's bound for an answer, in bytes
JOIN_MAX = 1 << 20  # up to this many bytes an answer is sent in one piece

# What is used after the user's code has run is taken now.
_read, _readv, _write, _time = os.read, os.readv, os.write, time.time
_loads, _dumps = json.loads, json.dumps


# --- frames -----------------------------------------------------------------


class Host:
    """The conversation with the host."""

    def __init__(self):
        self._rest = b""

    def _send(self, *parts):
        if sum(map(len, parts)) <= JOIN_MAX:
            parts = (b"".join(parts),)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[_write(HOST_FD, view):]

    @staticmethod
    def _short(text):
        raw = text.encode("utf-8", "replace")[:255]
        return bytes((len(raw),)) + raw

    def send(self, kind, shorts, payload=b"", ready=False):
        """Write a frame of some short strings and a payload, and READY behind it."""
        head = b"".join(map(self._short, shorts))
        size = (1 + len(head) + len(payload)).to_bytes(4, "little")
        self._send(size, bytes((kind,)), head, payload, READY_FRAME if ready else b"")

    def receive(self):
        """Wait for the next frame and return its type and its body."""
        data = self._rest
        while len(data) < 5:
            data += self._more()
        size = int.from_bytes(data[:4], "little") + 4
        if len(data) > size:
            self._rest = data[size:]
        elif len(data) < size:
            whole = bytearray(size)
            whole[: len(data)] = data
            with memoryview(whole) as view:
                at = len(data)
                while at < size:
                    n = _readv(HOST_FD, [view[at:]])
                    if n == 0:
                        os._exit(0)
                    at += n
            data = whole
            self._rest = b""
        else:
            self._rest = b""
        return data[4], data[5:size]

    @staticmethod
    def _more():
        data = _read(HOST_FD, 65536)
        if not data:
            os._exit(0)  # the host is gone, and so is the need for us
        return data


# --- errors, in AWS's shapes --------------------------------------------------


class Fault(Exception):
    """An error of the runtime's own making, with AWS's name for it."""

    def __init__(self, kind, message, stack=()):
        super().__init__(message)
        self.kind = "Runtime." + kind
        self.stack = list(stack)


def error_body(exc, request_id):
    """Make of an exception what the caller of the function gets to see."""
    if isinstance(exc, Fault):
        kind, stack = exc.kind, exc.stack
    else:
        kind = type(exc).__name__
        frames = traceback.extract_tb(exc.__traceback__)
        first = next((i for i, f in enumerate(frames) if f.filename != __file__), 0)
        stack = traceback.format_list(frames[first:])
    try:
        message = str(exc)
    except Exception:  # a __str__ of the user's that fails
        message = "<exception without a text>"
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": stack}


# --- the log -----------------------------------------------------------------

# State of the running event that the log shows.
current = types.SimpleNamespace(request_id=None, tenant_id=None, json_log=False)


class LogHandler(logging.Handler):
    """Writes records to standard output, each with one write."""

    def emit(self, record):
        try:
            record.aws_request_id = current.request_id or ""
            sys.stdout.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """AWS's JSON log format."""

    PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "aws_request_id", "taskName"}

    def format(self, record):
        line = {
            "timestamp": timestamp(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": current.request_id or "",
        }
        if record.exc_info and record.exc_info[0]:
            kind, value, tb = record.exc_info
            line["stackTrace"] = traceback.format_tb(tb)
            line["errorType"] = kind.__name__
            line["errorMessage"] = str(value)
            line["location"] = "{}:{}:{}".format(record.pathname, record.funcName, record.lineno)
        if current.tenant_id is not None:
            line["tenantId"] = current.tenant_id
        for key, value in vars(record).items():
            if key not in self.PLAIN and key not in line and value is not None:
                line[key] = value
        return _dumps(line, ensure_ascii=False, default=str)


def timestamp(seconds):
    at = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (at.microsecond // 1000)


def set_up_logging(env):
    logging.Formatter.converter = time.gmtime
    current.json_log = env.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    handler = LogHandler()
    if current.json_log:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
                "%Y-%m-%dT%H:%M:%S",
            )
        )
    root = logging.getLogger()
    level = env.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = {"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level)
    if level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        root.setLevel(level)
    root.addHandler(handler)


def log_error(body):
    """Log an error as AWS does: one entry, its indentation kept by no-break spaces."""
    if current.json_log:
        text = _dumps({"timestamp": timestamp(_time()), "level": "ERROR", **body}, ensure_ascii=False)
    else:
        lines = ["[ERROR] {}: {}".format(body["errorType"], body["errorMessage"]), "Traceback (most recent call last):"]
        for element in body["stackTrace"]:
            for line in element.splitlines():
                text = line.lstrip(" ")
                lines.append("\u00a0" * (len(line) - len(text)) + text)
        text = "\n".join(lines)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except Exception:  # the user's code closed or replaced it
        pass


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the user's code closed or replaced it
            pass


# --- the context ---------------------------------------------------------------


class _Record:
    """An object with a fixed set of fields, None where nothing is known."""

    __slots__ = ()

    def __init__(self, values=None):
        for name in self.__slots__:
            setattr(self, name, (values or {}).get(name))

    def __repr__(self):
        fields = ",".join("{}={}".format(n, getattr(self, n)) for n in self.__slots__)
        return "{}([{}])".format(type(self).__name__, fields)


class CognitoIdentity(_Record):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Record):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(_Record):
    __slots__ = ("custom", "env", "client")


class LambdaContext:
    """What a handler gets as its second argument."""

    def __init__(self, assignment, head):
        self.aws_request_id = head["id"]
        self.log_group_name = assignment["logGroup"]
        self.log_stream_name = assignment["logStream"]
        self.function_name = assignment["functionName"]
        self.memory_limit_in_mb = str(assignment["memoryMb"])
        self.function_version = assignment["version"]
        self.invoked_function_arn = head["arn"]
        self.tenant_id = head.get("tenant")
        client = _parse(head.get("client"), "Client Context")
        self.client_context = None
        if client is not None:
            self.client_context = ClientContext(client)
            if self.client_context.client is not None:
                self.client_context.client = Client(self.client_context.client)
        identity = _parse(head.get("identity"), "Cognito Identity") or {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": identity.get("cognitoIdentityId"),
                "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
            }
        )
        self._epoch_deadline_time_in_ms = head["deadline"]

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(_time() * 1000))

    def log(self, msg):
        sys.stdout.write(str(msg))

    def __repr__(self):
        fields = ",".join("{}={}".format(k, v) for k, v in vars(self).items() if not k.startswith("_"))
        return "LambdaContext([{}])".format(fields)


def _parse(text, name):
    if not text:
        return None
    try:
        return _loads(text)
    except Exception as e:
        raise Fault("LambdaContextUnmarshalError", "Unable to parse {} JSON: {}".format(name, e))


# --- init ----------------------------------------------------------------------


def become(user):
    """Give up root, where we have it and somebody else is named."""
    if user and os.getuid() == 0 and user["uid"] != 0:
        os.setgroups([])
        os.setgid(user["gid"])
        os.setuid(user["uid"])


def set_environment(env):
    os.environ.clear()
    os.environ.update(env)
    time.tzset()


def set_path(task_root, env):
    """Put the code in front of the path, then layers: AWS's order."""
    version = "python{}.{}".format(*sys.version_info[:2])
    front = [task_root]
    front += [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and p not in front]
    front += ["/opt/python/lib/{}/site-packages".format(version), "/opt/python"]
    sys.path[:] = front + [p for p in sys.path if p not in front]
    sys.argv[:] = [""]
    importlib.invalidate_caches()


def load_handler(name):
    """Find the function a handler string names: folder/module.function."""
    module, dot, function = name.rpartition(".")
    if not dot:
        raise Fault(
            "MalformedHandlerName",
            "Bad handler '{}': not enough values to unpack (expected 2, got 1)".format(name),
        )
    if module.split(".")[0] in sys.builtin_module_names:
        raise Fault("BuiltInModuleConflict", "Cannot use built-in module {} as a handler module".format(module))
    try:
        loaded = importlib.import_module(module.replace("/", "."))
    except ImportError as e:
        raise Fault("ImportModuleError", "Unable to import module '{}': {}".format(module, e))
    except SyntaxError as e:
        stack = ['  File "{}" Line {}\n    {}'.format(e.filename, e.lineno, e.text)]
        raise Fault("UserCodeSyntaxError", "Syntax error in module '{}': {}".format(module, e), stack)
    try:
        return getattr(loaded, function)
    except AttributeError:
        raise Fault("HandlerNotFound", "Handler '{}' missing on module '{}'".format(function, module))


def initialise(host, assignment):
    """Load the code. Ends the process where it cannot be run."""
    try:
        become(assignment.get("user"))
        set_environment(assignment["env"])
        os.chdir(assignment["taskRoot"])
        set_path(assignment["taskRoot"], assignment["env"])
        set_up_logging(assignment["env"])
        return load_handler(assignment["handler"])
    except Exception as e:
        body = error_body(e, "")
        log_error(body)
        flush()
        host.send(INIT_ERROR, (body["errorType"],), _dumps(body).encode())
        sys.exit(1)


# --- events --------------------------------------------------------------------

# From 3.12 on AWS's runtime sends text as it is; before, it escapes.
ENSURE_ASCII = sys.version_info < (3, 12)


def _default(value):
    if isinstance(value, decimal.Decimal):
        if value.is_nan():
            return math.nan
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent >= 0 else float(value)
    raise TypeError("Object of type {} is not JSON serializable".format(type(value).__name__))


_encode = json.JSONEncoder(ensure_ascii=ENSURE_ASCII, default=_default).encode


def marshal(result):
    if isinstance(result, bytes):
        return result
    try:
        return _encode(result).encode("utf-8")
    except Exception as e:
        raise Fault("MarshalError", "Unable to marshal response: {}".format(e))


def unmarshal(payload):
    try:
        return _loads(payload)
    except Exception as e:
        raise Fault("UnmarshalError", "Unable to unmarshal input: {}".format(e))


def send_too_large(host, request_id):
    """Answer in place of an answer that is over the limit. (The host would say
    the same, after it had been sent all of it.)"""
    kind = "Function.ResponseSizeTooLarge"
    message = "Response payload size exceeded maximum allowed payload size ({} bytes).".format(MAX_PAYLOAD)
    payload = _dumps({"errorType": kind, "errorMessage": message}, separators=(",", ":")).encode()
    host.send(ERROR, (request_id, kind), payload, ready=True)


def work(host, handler, assignment, body):
    """Handle one EVENT."""
    head_end = 4 + int.from_bytes(body[:4], "little")
    head = _loads(body[4:head_end])
    current.request_id, current.tenant_id = head["id"], head.get("tenant")
    trace = head.get("trace")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    try:
        context = LambdaContext(assignment, head)
        answer = marshal(handler(unmarshal(body[head_end:]), context))
    except Exception as e:  # what is not an Exception, such as SystemExit, ends the process
        failed = error_body(e, head["id"])
        log_error(failed)
        flush()
        host.send(ERROR, (head["id"], failed["errorType"]), _dumps(failed).encode(), ready=True)
    else:
        flush()
        if len(answer) > MAX_PAYLOAD:
            send_too_large(host, head["id"])
        else:
            host.send(RESPONSE, (head["id"],), answer, ready=True)


def forget_host():
    """Take the host's connection from a forked child: it is not the child's to
    answer on, and while a child holds it the host cannot see our end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, HOST_FD, inheritable=False)
    os.close(null)


def warm_up():
    """Do what the first function would otherwise wait for."""
    _encode(_loads('{"warm": ["up", 1, null, "\\u00e9"]}'))
    traceback.format_list(traceback.extract_stack())
    if not hasattr(builtins, "exit"):  # the interpreter runs without site
        import site

        site.setquit()


def main():
    os.set_inheritable(HOST_FD, False)
    os.register_at_fork(after_in_child=forget_host)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    warm_up()
    host = Host()
    kind = PING
    while kind == PING:
        host.send(BOOTED, (), b"python " + sys.version.split()[0].encode())
        kind, body = host.receive()
    if kind != ASSIGN:
        sys.exit(1)
    assignment = _loads(body)
    handler = initialise(host, assignment)
    host.send(READY, ())
    while True:
        kind, body = host.receive()
        if kind != EVENT:
            sys.exit(1)
        work(host, handler, assignment, body)


if __name__ == "__main__":
    main()
