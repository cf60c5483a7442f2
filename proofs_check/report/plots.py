"""Plots of a run as inline SVG that follows the colours of the page, light or dark.

Figures are drawn with Matplotlib's object-oriented interface under its default settings plus the
ones below, whatever the reader's own are. The same results give the same bytes: no date, and a
fixed salt in the identifiers. Text stays text; the page's style sheet chooses its face.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from proofs_check.report.summary import CheckSummary
from proofs_check.results import ScalingFit, ScenarioResult, Verdict

__all__ = ["curve_plot", "ratio_plot", "scaling_plot"]

# Each colour is drawn as itself and becomes a variable of the page's style sheet afterwards. Blue
# and vermilion (Okabe and Ito) stay apart for every kind of colour vision, and so do the shapes.
_INK, _MUTED, _GRID = "#1b2430", "#5d6878", "#e3e7ed"
_BLUE, _ORANGE, _AMBER, _SURFACE = "#0068a8", "#c8500a", "#9a6b00", "#fffffe"
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _GRID: "--line",
    _BLUE: "--blue",
    _ORANGE: "--orange",
    _AMBER: "--amber",
    _SURFACE: "--surface",
}
_MARKERS = {
    Verdict.CONSISTENT: ("o", _BLUE, _BLUE),
    Verdict.REFUTED: ("X", _ORANGE, _ORANGE),
    Verdict.INCONCLUSIVE: ("D", _AMBER, _AMBER),
    Verdict.VACUOUS: ("o", _MUTED, _SURFACE),
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "coresets",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_HIGHEST_ERROR = 10.0  # far above 1 a bound says nothing, however far
_ROUNDING = 1e-9  # an error below is drawn nowhere: it would only stretch the axis
_LOWEST_RATIO, _HIGHEST_RATIO = 1e-3, 1e3  # exact statements leave rounding errors only; how small is no news


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults with our settings; the reader's own return afterwards."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Glyphs are measured in Matplotlib's font but drawn in the browser's, which has more.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        mpl.rcdefaults()
        cast("dict[str, Any]", mpl.rcParams).update(_STYLE)
        yield


def _svg(figure: Figure, name: str, label: str) -> str:
    """SVG element of the figure, with identifiers of its own and the page's colours."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    opening = rf'<svg role="img" aria-label="{label}" viewBox="\1">'
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opening, text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Inline, the figures share one space of identifiers. Those that nothing refers to are dropped.
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"\bfont: (\S+) [^;\"]*", r"font-size: \1", text)
    for colour, variable in _VARIABLES.items():
        text = re.sub(rf"(?<=: ){colour}\b", f"var({variable})", text)
    return text


def _positive(values: Iterable[float]) -> list[float]:
    """Values with a place on a logarithmic axis; NaN, which is not drawn, for the others."""
    return [value if math.isfinite(value) and value > 0 else math.nan for value in values]


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in _positive(values) if not math.isnan(value)]


def _tick_label(value: float) -> str:
    exponent = round(math.log10(value))
    if -3 <= exponent <= 3:
        return f"{value:,.10g}"
    power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = round(value / 10.0**exponent, 6)
    return f"10{power}" if mantissa == 1 else f"{mantissa:g}·10{power}"


def _log_axis(axis: Axis, low: float, high: float) -> None:
    """Ticks at round values within [low, high]: 1-2-5 on a short axis, powers of ten on a long one."""
    decades = math.log10(high / low)
    steps: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    if decades < 0.8:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    stride = max(1, math.ceil(decades / 7))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers if power % stride == 0 for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([_tick_label(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def _log_limits(values: Sequence[float], margin: float) -> tuple[float, float]:
    return (min(values) / margin, max(values) * margin) if values else (0.1, 10.0)


def _axes(width: float, height: float, *, left: float = 0.7, legend_rows: int = 1) -> tuple[Figure, Axes]:
    """Figure with one axes, margins in inches: measuring the text instead would draw everything twice."""
    bottom, right, top = 0.46, 0.2, 0.1 + 0.19 * legend_rows
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (left / width, bottom / height, 1.0 - (left + right) / width, 1.0 - (bottom + top) / height)
    )
    axes.set_xscale("log")
    axes.grid(visible=True)
    axes.yaxis.set_label_coords(-(left - 0.13) / (width - left - right), 0.5)
    return figure, axes


def _legend_above(axes: Axes, handles: list[Line2D] | None = None, *, columns: int) -> None:
    axes.legend(
        handles=handles or axes.get_legend_handles_labels()[0],
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
        borderpad=0.1,
        handlelength=1.7,
        borderaxespad=0.2,
    )


def ratio_plot(summaries: Sequence[CheckSummary], name: str) -> str:
    """Observed over claimed error of every scenario, one row a guarantee, on a logarithmic axis.

    Parameters
    ----------
    summaries : sequence of CheckSummary
        Rows, from the top.
    name : str
        Prefix of the identifiers, unique on the page.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    with _style():
        longest = max((len(line.check.key) for line in summaries), default=0)
        figure, axes = _axes(9.4, 0.75 + 0.25 * max(len(summaries), 2), left=0.4 + 0.085 * min(longest, 30))
        ratios = [scenario.ratio for line in summaries for scenario in line.check.scenarios]
        low, high = _log_limits([*_finite(ratios), 1.0], 1.7)
        low, high = max(low, _LOWEST_RATIO), min(high, _HIGHEST_RATIO)
        used = set()
        for row, line in enumerate(summaries):
            for scenario in line.check.scenarios:
                marker, edge, face = _MARKERS[scenario.verdict]
                # What lies beyond the axis, a ratio of zero say, sits on its edge as an arrow head.
                beyond = "<" if not scenario.ratio >= low else ">" if scenario.ratio > high else None
                x = min(max(scenario.ratio, low), high) if beyond != "<" else low
                look: dict[str, Any] = {"color": edge, "markerfacecolor": face, "markersize": 6, "alpha": 0.8}
                axes.plot([x], [row], beyond or marker, clip_on=False, **look)
                used.add(scenario.verdict)
        axes.axvspan(1.0, high, color=_ORANGE, alpha=0.08, linewidth=0)
        axes.axvline(1.0, color=_INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_xlim(low, high)
        axes.set_ylim(max(len(summaries), 1) - 0.4, -0.6)
        axes.set_yticks(range(len(summaries)), [line.check.key for line in summaries], color=_INK)
        axes.tick_params(axis="y", length=0, pad=9)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("observed (1 \N{MINUS SIGN} δ)-quantile of the error / claimed ε (the claim is at 1)")
        _log_axis(axes.xaxis, low, high)
        handles = [
            Line2D(
                [], [], ls="", marker=marker, color=edge, markerfacecolor=face, label=verdict.value.lower()
            )
            for verdict, (marker, edge, face) in _MARKERS.items()
            if verdict in used
        ]
        _legend_above(axes, handles, columns=4)
        return _svg(figure, name, "Ratio of observed to claimed error, one row a guarantee")


def curve_plot(scenario: ScenarioResult, name: str) -> str:
    """Error of one scenario against size, with the bound and the region in which it is vacuous.

    The page explains the lines once for all such plots.

    Parameters
    ----------
    scenario : ScenarioResult
        With a curve.
    name : str
        Prefix of the identifiers, unique on the page.

    Returns
    -------
    str
        An ``<svg>`` element.

    Raises
    ------
    ValueError
        If the scenario has no curve.
    """
    curve = scenario.curve
    if curve is None:
        raise ValueError(f"the scenario {scenario.workload!r} has no curve; plot only those that have one")
    with _style():
        figure, axes = _axes(3.7, 2.4, legend_rows=0)
        axes.set_yscale("log")
        seen = [error for error in _finite((*curve.typical, *curve.quantile)) if error > _ROUNDING]
        # A bound below rounding (draws with replacement are exact for equal losses) is drawn at its edge.
        promised = [max(bound, _ROUNDING) for bound in _finite((*curve.bound, scenario.epsilon))]
        low, high = _log_limits([*seen, *promised], 1.6)
        high = min(high, max([_HIGHEST_ERROR, *(1.6 * value for value in seen)]))
        low = min(low, high / 10.0)
        if high > 0.6:
            high = max(high, 2.5)  # room for the vacuous region, or none of it
        left, right = _log_limits(_finite([*map(float, curve.sizes), float(scenario.size)]), 1.15)
        if high > 1.0:
            axes.axhspan(1.0, high, color=_MUTED, alpha=0.12, linewidth=0)
            place: dict[str, Any] = {"ha": "right", "va": "top", "transform": axes.transAxes}
            axes.text(0.98, 0.96, "vacuous", color=_MUTED, fontsize=8, **place)
        axes.plot(curve.sizes, _positive(curve.bound), color=_INK, linestyle=(0, (5, 2)))
        axes.plot(curve.sizes, _positive(curve.quantile), "-o", color=_ORANGE)
        axes.plot(curve.sizes, _positive(curve.typical), "-s", color=_BLUE)
        tested: dict[str, Any] = {"color": _INK, "markerfacecolor": _SURFACE, "markersize": 6}
        axes.plot([scenario.size], _positive([scenario.epsilon]), "D", **tested)
        if not seen:
            nothing = "no error beyond rounding"
            axes.text(0.5, 0.4, nothing, color=_MUTED, ha="center", transform=axes.transAxes)
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        axes.set_xlabel("coreset size")
        axes.set_ylabel("worst-query error")
        _log_axis(axes.xaxis, left, right)
        _log_axis(axes.yaxis, low, high)
        return _svg(figure, name, "Error against coreset size, with the bound")


def scaling_plot(fit: ScalingFit, name: str) -> str:
    """Measured and proved size against the variable, with the fitted slopes.

    Parameters
    ----------
    fit : ScalingFit
        What was measured.
    name : str
        Prefix of the identifiers, unique on the page.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    with _style():
        figure, axes = _axes(3.7, 2.6)
        axes.set_yscale("log")
        low, high = _log_limits(_finite((*fit.measured, *fit.proved)), 1.5)
        left, right = _log_limits(_finite(fit.values), 1.12)
        axes.plot(
            fit.values,
            _positive(fit.proved),
            color=_INK,
            linestyle=(0, (5, 2)),
            marker="D",
            markerfacecolor=_SURFACE,
            label=f"proved, slope {fit.proved_exponent:.2f}",
        )
        slope = f"measured, slope {fit.measured_exponent:.2f}"
        axes.plot(fit.values, _positive(fit.measured), "-o", color=_BLUE, label=slope)
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        axes.set_xlabel({"1/epsilon": "1 / ε"}.get(fit.variable, fit.variable))
        axes.set_ylabel("smallest sufficient size")
        _log_axis(axes.xaxis, left, right)
        _log_axis(axes.yaxis, low, high)
        _legend_above(axes, columns=2)
        return _svg(figure, name, "Smallest sufficient size, measured and proved")
