"""The comparison as a picture: single-stream throughput up and down, a pair of bars a subject, with whiskers.

An SVG of its own, without scripts or fonts, transparent, with colours for light and dark pages; 800 pixels wide.
"""

from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 800, 216, 84, 74
BAR, GAP, PAUSE = 11, 2, 12  # a bar's height, between a pair, between subjects
HEADING = 22
GROUPS = {"reference": "References", "penstock": "Penstock", "peer": "Others"}

STYLE = """
    text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .group { font-weight: 600; fill: #59636e }
    .small { font-size: 11px; fill: #59636e }
    .grid { stroke: #59636e; stroke-opacity: 0.25 }
    .whisker { stroke: #1f2328; stroke-width: 1.2 }
    .up { fill: #2f81f7 }
    .down { fill: #e08a2b }
    .other.up { fill: #7f97b5 }
    .other.down { fill: #c3a583 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .group, .small { fill: #9198a1 }
      .grid { stroke: #9198a1 }
      .whisker { stroke: #e6edf3 }
    }
"""


def step_for(largest):
    """Between grid lines: 1, 2 or 5 times a power of ten, so that there are four to eight."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if largest / (step * factor) <= 8:
                return step * factor
        step *= 10


def draw(subjects, medians, about, ciphers):
    """The SVG's text; `about` is the line below the title, `ciphers` the last. Subjects without a measurement are left
    out."""
    shown = [subject for subject in subjects if medians.get(subject.name, {}).keys() & {"up", "down"}]
    # The bare wire would make all else short: it is told in words.
    wire = next((medians[subject.name]["up"]["median"] for subject in shown if subject.name == "veth"
                 and "up" in medians[subject.name]), None)
    shown = [subject for subject in shown if subject.name != "veth"]
    largest = max((medians[s.name][d]["max"] for s in shown for d in ("up", "down") if d in medians[s.name]), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / largest
    body, y = [], TOP
    for group, heading in GROUPS.items():
        members = [subject for subject in shown if subject.group == group]
        if not members:
            continue
        body.append(f'<text class="group" x="16" y="{y + 13}">{escape(heading)}</text>')
        y += HEADING
        for subject in members:
            measures = medians[subject.name]
            body.append(f'<text x="{LEFT - 10}" y="{y + BAR + GAP / 2 + 4:g}" text-anchor="end">'
                        f'{escape(subject.title)}</text>')
            for direction in ("up", "down"):
                if direction in measures:
                    body += bar(measures[direction], direction, "" if group == "penstock" else "other ", y, scale)
                y += BAR + GAP
            y += PAUSE - GAP
        y += 4
    grid = []
    step = step_for(largest)
    for i in range(int(largest / step) + 1):
        x = LEFT + i * step * scale
        grid += [f'<line class="grid" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{y}"/>',
                 f'<text class="small" x="{x:.1f}" y="{y + 14}" text-anchor="middle">{i * step:,.0f}</text>'.replace(",", " ")]
    note = "Mbit/s, medians; whiskers from the least to the most"
    if wire:
        note += f". The bare veth carries {wire / 1000:.0f} Gbit/s."
    legend = [f'<rect class="up" x="{WIDTH - 150}" y="14" width="12" height="12" rx="2"/>',
              f'<text x="{WIDTH - 133}" y="25">up</text>',
              f'<rect class="down" x="{WIDTH - 96}" y="14" width="12" height="12" rx="2"/>',
              f'<text x="{WIDTH - 79}" y="25">down</text>']
    height = y + 60
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        "<title>Throughput of a single TCP stream through each tunnel</title>",
        f"<style>{STYLE}</style>",
        '<text class="title" x="16" y="26">A single TCP stream through each tunnel</text>',
        f'<text class="small" x="16" y="46">{escape(about)}</text>',
        *legend, *grid, *body,
        f'<text class="small" x="{LEFT}" y="{y + 34}">{escape(note)}</text>',
        f'<text class="small" x="{LEFT}" y="{y + 50}">{escape(ciphers)}</text>',
        "</svg>", ""])


def bar(measure, direction, kind, y, scale):
    least, median, most = (LEFT + measure[key] * scale for key in ("min", "median", "max"))
    middle = y + BAR / 2
    lines = [f'<rect class="{kind}{direction}" x="{LEFT}" y="{y}" width="{max(1, median - LEFT):.1f}" height="{BAR}" rx="2"/>']
    if measure["rounds"] > 1:
        lines += [f'<line class="whisker" x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}"/>',
                  *(f'<line class="whisker" x1="{x:.1f}" y1="{middle - 3}" x2="{x:.1f}" y2="{middle + 3}"/>'
                    for x in (least, most))]
    value = f"{int(measure['median']):,}".replace(",", " ")
    lines.append(f'<text class="small" x="{most + 6:.1f}" y="{y + BAR - 1.5}">{value}</text>')
    return lines
