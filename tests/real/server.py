"""A gRPC server of grpcio's that follows the script in each call's metadata, and tells what it saw.

Prints its port, serves on loopback, and ends when its standard input does.

A call names its script by `script-id` and brings it as `script`: one step for each attempt, split by `|`; the last one
goes on for ever. A step is words split by blanks:

  ok            answer
  status=N      fail with this code, all of it in the head (nothing was sent before)
  head          send the head first, so that the status comes in trailers
  messages=N    send so many messages first
  pushback=X    `grpc-retry-pushback-ms: X` in the trailers
  retry-info=S  a RetryInfo of S seconds in `grpc-status-details-bin`
  sleep=MS      wait first
"""

import json
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

SERVICE = "evenkeel.test.v1.Echo"
CODES = {code.value[0]: code for code in grpc.StatusCode}

lock = threading.Lock()
seen = {}


def note(context):
    """Counts the attempt and returns its step."""
    metadata = dict(context.invocation_metadata())
    attempt = {
        "previous": metadata.get("grpc-previous-rpc-attempts"),
        # What grpcio makes of grpc-timeout, which it keeps to itself; None where there was none.
        "remaining": context.time_remaining(),
        "at": time.monotonic(),
    }
    with lock:
        attempts = seen.setdefault(metadata.get("script-id", ""), [])
        attempts.append(attempt)
        number = len(attempts)
    steps = metadata.get("script", "ok").split("|")
    words = steps[min(number, len(steps)) - 1].split()
    return dict(word.split("=", 1) if "=" in word else (word, "") for word in words)


def fail(context, step):
    code = CODES[int(step["status"])]
    trailers = []
    if "pushback" in step:
        trailers.append(("grpc-retry-pushback-ms", step["pushback"]))
    if "retry-info" in step:
        delay = duration_pb2.Duration(seconds=int(step["retry-info"]))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=code.value[0], message="scripted", details=[detail])
        trailers.extend(rpc_status.to_status(status).trailing_metadata)
    context.set_trailing_metadata(trailers)
    context.abort(code, "scripted")


def repeat(request, context):
    step = note(context)
    time.sleep(int(step.get("sleep", "0")) / 1000)
    for _ in range(int(step.get("messages", "0"))):
        yield request
    if "status" in step:
        fail(context, step)


def unary(request, context):
    step = note(context)
    if "head" in step:
        context.send_initial_metadata(())
    time.sleep(int(step.get("sleep", "0")) / 1000)
    if "status" in step:
        fail(context, step)
    return request


def told(request, context):
    """The attempts seen for the script whose name is the message, as text in the same kind of message."""
    length = request[1] if request else 0
    with lock:
        text = json.dumps(seen.get(request[2 : 2 + length].decode(), [])).encode()
    size, rest = b"", len(text)
    while rest > 0x7F:
        size, rest = size + bytes([rest & 0x7F | 0x80]), rest >> 7
    return b"\x0a" + size + bytes([rest]) + text


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    }
    control = {"Unary": grpc.unary_unary_rpc_method_handler(told)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, methods),
            grpc.method_handlers_generic_handler("evenkeel.test.v1.Control", control),
        )
    )
    servicer = health.HealthServicer()
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
