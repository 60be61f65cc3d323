"""What every picture starts from and ends with: colours, an empty figure, a file that is whole or absent."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.files import written_whole

INK, FAINT, GRID = "#26323a", "#8a969c", "#dfe4e6"


def new_figure(width, height):
    """An empty white figure, in inches. It belongs to no window, so nothing needs to be closed."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def bare(axis):
    """Take the frame and the ticks' marks off; the ticks' figures stay, small."""
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(axis="both", which="both", length=0, labelsize=8, labelcolor=FAINT)


def save(figure, path):
    """Write a PNG, whole or not at all. Raises ValueError that names the file."""
    with written_whole(path) as aside:
        figure.savefig(aside, format="png")
