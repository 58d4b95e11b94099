"""Kernels that need not import the large libraries: each is forked from a process that has them.

    python tools/warm.py serve SOCKET              # imports LIBRARIES, then forks a kernel for every launch
    python tools/warm.py launch SOCKET -f FILE …   # what Jupyter starts instead of a kernel; ends with it

Half of the time of a short page goes into torch, astropy and pandas. astrid_data itself is never imported here: every page
imports it anew, in a process of its own. The server ends when its standard input does, so it outlives nobody.
"""

import json
import os
import selectors
import signal
import socket
import sys

LIBRARIES = (
    'ipykernel.ipkernel ipykernel.kernelapp matplotlib.pyplot matplotlib_inline.backend_inline '
    'numpy pandas pyarrow.parquet scipy.ndimage scipy.stats sqlalchemy.orm torch.utils.data '
    'astropy.coordinates astropy.io.fits astropy.table astropy.time astropy.wcs fastcore.test '
    'numba photutils.segmentation sklearn.linear_model sqlalchemy.dialects.sqlite tqdm.auto'
).split()


def read_request(connection):
    "The command line, environment and folder of a launch"
    parts = []
    while not parts or not parts[-1].endswith(b'\n'):
        part = connection.recv(65536)
        if not part:
            return None
        parts.append(part)
    return json.loads(b''.join(parts))


def be_kernel(request):
    "Turn this process, which was just forked, into the kernel that was asked for"
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request['environment'], JPY_PARENT_PID=str(os.getppid()))
    os.chdir(request['folder'])
    sys.argv = ['ipykernel_launcher', *request['arguments']]
    sys.path.pop(0)  # The folder of this script
    np.random.seed()
    IPKernelApp.launch_instance(argv=request['arguments'])


def start(connection, others):
    "Fork a kernel for a connection; its process, or None where nothing was asked"
    request = read_request(connection)
    if request is None:
        return None
    process = os.fork()
    if process:
        return process
    try:
        for other in others:
            other.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        be_kernel(request)
    finally:
        os._exit(0)


def end_of(connection, process, kernels):
    "A launcher or its kernel has ended: so does the other"
    del kernels[connection]
    connection.close()
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def serve(path):
    "Fork kernels until standard input ends"
    os.environ.setdefault('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
    for name in LIBRARIES:
        __import__(name)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f'{path}.new')
    listening.listen()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wake = socket.socketpair()  # A child that ends wakes the loop
    woken.setblocking(False), wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    os.rename(f'{path}.new', path)  # From here on there is somebody who answers
    kernels = {}
    with selectors.DefaultSelector() as selector:
        for one in (sys.stdin, listening, woken):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    for connection, process in list(kernels.items()):
                        end_of(connection, process, kernels)
                    return
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    process = start(connection, [listening, woken, wake, *kernels, selector])
                    if process:
                        kernels[connection] = process
                        selector.register(connection, selectors.EVENT_READ)
                elif key.fileobj is woken:
                    woken.recv(4096)
                    for connection, process in list(kernels.items()):
                        if os.waitpid(process, os.WNOHANG)[0]:
                            selector.unregister(connection)
                            end_of(connection, process, kernels)
                elif key.fileobj in kernels:  # The launcher was ended
                    selector.unregister(key.fileobj)
                    end_of(key.fileobj, kernels[key.fileobj], kernels)


def launch(path, *arguments):
    "Ask for a kernel and wait for its end"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = dict(arguments=arguments, environment=dict(os.environ), folder=os.getcwd())
        connection.sendall(json.dumps(request).encode() + b'\n')
        connection.recv(1)


if __name__ == '__main__':
    verb, *words = sys.argv[1:]
    dict(serve=serve, launch=launch)[verb](*words)
