"""What makes training faster on the machine that it runs on."""

import ctypes

MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # what glibc's mallopt calls them


def compile_model(model):
    """torch.compile of the encoder and the decoder, in place: the keys of the state dict stay, and so does sampling,
    which takes the decoder step by step, without it.

    Chance is drawn by the kernels that draw it uncompiled, so that the same seed drops the same.
    """
    for part in (model.encoder, model.decoder):
        part.compile(options={"fallback_random": True})


def keep_freed_memory():
    """Let the C library keep what tensors on the CPU free, for the next ones, instead of handing it back.

    Otherwise a training step asks the system for the same hundreds of megabytes again and again, page by page. Only
    where the library is glibc; elsewhere nothing happens.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return
    set_option(MALLOC_MMAP_THRESHOLD, 2**30)
    set_option(MALLOC_TRIM_THRESHOLD, 2**31 - 1)
