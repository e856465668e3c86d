"""redis-cli in a terminal: what is typed, and the hints that it shows behind it.

redis-cli 7 asks the server for them (COMMAND DOCS) when it starts. Called with the port; exits with 1 and says what was shown instead.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios

PATIENCE_S = 60
HINTS = {
    b"hset ": b"key field value [field value ...]",
    b"get ": b"key",
    b"set k v ": b"[NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
    b"config set ": b"parameter value [parameter value ...]",
    b"client no-evict ": b"ON|OFF",
    b"object encoding ": b"key",
}
ESCAPES = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
CLEAR_LINE = b"\x15"


def main(port: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        # The parent says how wide it is before anything is asked.
        os.read(0, 1)
        os.environ.update(TERM="xterm", REDISCLI_HISTFILE="/dev/null", REDISCLI_RCFILE="/dev/null")
        os.execvp("redis-cli", ["redis-cli", "-p", port])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 240, 0, 0))
    os.write(terminal, b"\n")
    expect(terminal, b"> ")
    for typed, hint in HINTS.items():
        os.write(terminal, typed)
        expect(terminal, b"> " + typed + hint)
        os.write(terminal, CLEAR_LINE)
    os.write(terminal, b"ping\r")
    # What is typed before the next prompt may be lost: redis-cli throws away what came while it waited for a reply.
    expect(terminal, b"PONG", b"> ")
    os.write(terminal, b"exit\r")
    expect_end(terminal)
    os.waitpid(pid, 0)


def expect(terminal: int, *texts: bytes) -> None:
    """Reads until these are shown, one behind the other, without regard to colours and movements."""
    pattern = re.compile(b".*".join(map(re.escape, texts)), re.DOTALL)
    shown = b""
    while not pattern.search(ESCAPES.sub(b"", shown)):
        shown += read(terminal, f"{texts!r} is not shown, but {shown[-2000:]!r}")


def expect_end(terminal: int) -> None:
    """Reads until redis-cli has ended, which the terminal tells by an error."""
    try:
        while read(terminal, "redis-cli does not end"):
            pass
    except OSError:
        pass


def read(terminal: int, complaint: str) -> bytes:
    ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
    return os.read(terminal, 65536) if ready else sys.exit(complaint)


main(sys.argv[1])
