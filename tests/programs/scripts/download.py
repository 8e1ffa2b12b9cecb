"""Serves some bytes over TCP to a child that loads them: with one socket, opened before anything is sent, or by curl.

Usage: download.py BYTES [curl]
"""

import hashlib
import os
import socket
import subprocess
import sys


def pieces(total):
    """The bytes, in pieces that differ."""
    block = hashlib.shake_256(b"download").digest(1 << 16)
    sent = 0
    while sent < total:
        piece = (sent.to_bytes(8, "little") + block)[: min(1 << 16, total - sent)]
        sent += len(piece)
        yield piece


def serve(listener, total):
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(4096)
        if request.startswith(b"GET"):
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for piece in pieces(total):
            connection.sendall(piece)


def load(port):
    received, digest = 0, hashlib.sha256()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"please")
        while piece := connection.recv(50000):
            received += len(piece)
            digest.update(piece)
    print(received, digest.hexdigest())


def main(total, by_curl):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    expected = hashlib.sha256()
    for piece in pieces(total):
        expected.update(piece)
    print(total, expected.hexdigest(), flush=True)
    server = os.fork()
    if server == 0:
        serve(listener, total)
        os._exit(0)
    listener.close()
    if by_curl:
        url = f"http://127.0.0.1:{port}/file"
        with subprocess.Popen(["curl", "--silent", "--show-error", url], stdout=subprocess.PIPE) as curl:
            received, digest = 0, hashlib.sha256()
            while piece := curl.stdout.read(1 << 16):
                received += len(piece)
                digest.update(piece)
        print(received, digest.hexdigest(), curl.returncode)
    else:
        load(port)
    print(os.waitpid(server, 0)[1])


main(int(sys.argv[1]), len(sys.argv) > 2)
