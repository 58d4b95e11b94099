"What a worker process does that is killed; apart, as a worker imports it"

import os
import re
import signal
import sys
import traceback


def die(*_):
    "End as if the kernel had ended it"
    os.kill(os.getpid(), signal.SIGKILL)


def call(dies, function, args, kwargs):
    "A call of a function, or death"
    return die() if dies else function(*args, **kwargs)


def _is_pipe(fd):
    try:
        return os.readlink(f'/proc/self/fd/{fd}').startswith('pipe')
    except OSError:
        return False


def send_half():
    "Write the beginning of an answer where answers go, and die"
    answers = next(fd for fd in range(3, 20) if _is_pipe(fd))
    os.write(answers, (1000).to_bytes(8, 'little') + b'half')
    die()


def run_forked(function, *args):
    "Call in a process that has all imports already: 0, 1 after an error, or minus its signal"
    process = os.fork()
    if not process:
        code = 1
        try:
            function(*args)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may come back into the tests of the parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def hang(marker):
    "Say which process this is, and compute for ever with Python's lock held, as a C library may"
    with open(marker, 'w') as file:
        file.write(str(os.getpid()))
        file.flush()
        os.fsync(file.fileno())
    re.match('(a*)*b', 'a' * 60)
