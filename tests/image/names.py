"""A name server that knows one name, for the test of the image: names.py ADDRESS NAME IPV4."""

import socket
import sys

address, name, answer = sys.argv[1:]
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    question = query[12:]
    known = question.startswith(labels)
    end = question.index(b"\0") + 5
    is_a = question[end - 4 : end - 2] == b"\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(answer)
    head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + (b"\0\1" if known and is_a else b"\0\0") + b"\0\0\0\0"
    server.sendto(head + question[:end] + (record if known and is_a else b""), client)
