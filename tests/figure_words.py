"""The words of a figure, and where they stand."""

import matplotlib


def words(figure):
    """Every visible word of a figure, with its box in dots."""
    figure.canvas.draw()
    beyond = set()
    for ax in figure.findobj(matplotlib.axes.Axes):
        beyond |= labels_beyond(ax.xaxis) | labels_beyond(ax.yaxis)
    boxes = []
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text().strip() and text not in beyond:
            boxes.append((text.get_text(), text.get_window_extent()))
    return boxes


def labels_beyond(axis):
    """Labels of ticks outside the axis, which matplotlib keeps but does not draw."""
    low, high = sorted(axis.get_view_interval())
    labels = set()
    for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
        if not low <= tick.get_loc() <= high:
            labels |= {tick.label1, tick.label2}
    return labels
