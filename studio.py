"""The studio: a page in your browser to tap a rhythm, hear drums to it and edit them.

It serves on 127.0.0.1, for this machine alone, and uses no internet. utils/studio/ has the server,
studio/ the page.
"""

import argparse
import errno
import socket
import sys
import webbrowser

from utils.checks import ArgumentError
from utils.flags import FlagParser

EXAMPLES = """examples:
  python studio.py
  python studio.py --port 9000 --no-browser
  python studio.py --checkpoint runs/default/drummer.pt --soundfont my_kit.sf2
"""


def parse_arguments(words=None):
    parser = FlagParser(
        prog="studio.py",
        usage="%(prog)s [flags]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        default=8765,
        help="the port of the page; 0: any free one (default: 8765)",
    )
    parser.add_argument("--checkpoint", metavar="PT", help="the model (default: checkpoints/drummer.pt)")
    parser.add_argument("--soundfont", metavar="SF2", help="a .sf2 file (default: a General MIDI soundfont)")
    parser.add_argument(
        "--device", metavar="NAME", default="auto", help="cpu, cuda, cuda:1, mps, or auto (default)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    return parser.parse_args(words)


def listen(port):
    """A socket on this machine alone. Raises ArgumentError where the port is none, or taken."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OverflowError:
        raise ArgumentError("port", port, "it must be a number from 0 to 65535") from None
    except OSError as error:
        taken = "another program uses it, perhaps an open studio; --port 0 takes a free one"
        why = taken if error.errno == errno.EADDRINUSE else error.strerror
        raise ArgumentError("port", port, why) from None


def named_as_given(error):
    """The error of an argument under the name of its flag."""
    if not isinstance(error, ArgumentError):
        return error
    first, *rest = error.argument
    return error.named(f"--{first}", *rest)


def main(arguments):
    """Serve until Ctrl+C. Returns the exit status: 0, or 2 after one line on stderr."""
    import uvicorn

    from utils.device import pick_device
    from utils.get_model import SHIPPED, load_model
    from utils.midi.sound import check_soundfont
    from utils.studio.app import MOST_MESSAGE, make_app

    try:
        listening = listen(arguments.port)
        check_soundfont(arguments.soundfont)
        model = load_model(arguments.checkpoint or SHIPPED, pick_device(arguments.device))
        app = make_app(model, arguments.checkpoint, arguments.soundfont)
    except ValueError as error:
        print(f"studio.py: {named_as_given(error)}", file=sys.stderr)
        return 2
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    print(f"The studio is at {address} (Ctrl+C ends it)", flush=True)
    if not arguments.no_browser:
        webbrowser.open(address)
    config = uvicorn.Config(app, log_level="warning", ws_max_size=MOST_MESSAGE, timeout_graceful_shutdown=1)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
