"""Calls Unary once with grpcio's own client and its own retries: `client.py PORT SCRIPT_ID SCRIPT MAX_ATTEMPTS`.

Prints the code that it ended with. The server counts the attempts.
"""

import json
import sys

import grpc

SERVICE = "evenkeel.test.v1.Echo"


def main():
    port, name, script, attempts = sys.argv[1:]
    policy = {
        "maxAttempts": int(attempts),
        "initialBackoff": "0.05s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": policy}]}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Unary")
        metadata = (("script-id", name), ("script", script))
        try:
            call(b"", metadata=metadata, timeout=10)
            print(0)
        except grpc.RpcError as error:
            print(error.code().value[0])


if __name__ == "__main__":
    main()
