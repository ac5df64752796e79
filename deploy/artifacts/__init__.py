"""ONNX, certificate and Bento on their way between machines that share no disk.

    <url>/blobs/sha256/<digest>            bytes, named by what they are
    <url>/versions/<model>/<label>.json    a version's files: name → digest
    <url>/bentos/<digest>.json             a Bento, by its own digest: its tag, and its tar's digest

Blobs are written first and the small document that names them last, in one piece: whoever reads
sees all of a change or nothing of it. Digests are checked when bytes leave and when they arrive.
"""
